"""A class that predicts batches of rows, for engines that bring their own: Ray Data's `map_batches`, Spark's `mapInPandas`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from facecade.base.choices import Engine, EnsembleKind, Precision
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, default_workers
from facecade.base.place import is_url
from facecade.faces.boxes import SIDES
from facecade.faces.decode import DecodeError, ImageBytes
from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES
from facecade.faces.listing_table import ListedImage
from facecade.faces.reader import AnyImage
from facecade.inference.columns import AGES, columns_of, embedding_widths
from facecade.inference.loading import load_cascade, open_fitted
from facecade.inference.released import cascade_folder
from facecade.report.predictions import NO_PREDICTION

INPUTS = ("bytes", "image", "uri")
"""Columns that a photograph may be in, the first that is there: the bytes of its file; pixels, uint8 (height, width, 3), RGB; its URL
or path."""

SPARK_SCHEMA = ", ".join(
    [
        "label int, mask string, gender string, band string",
        *(f"{name} float" for name in (*AGES, "confidence")),
        "flags string, faces int, face int",
        *(f"{name} float" for name in (*SIDES, *(f"p{label}" for label in range(N_CLASSES)))),
    ]
)
"""The columns that are added, in the words of Spark."""

Batch = TypeVar("Batch", pd.DataFrame, dict[str, np.ndarray])


class BatchPredictor:
    """Predicts batches of rows with networks that are loaded once, when it is made: make one for each worker, in the worker.

    A batch is a table or a dict of columns. It needs one of the columns `bytes`, `image` and `uri`; `bytes` and `image` are left out of
    the result, all other columns are kept. A photograph that cannot be read has a flag, and no error.
    """

    def __init__(
        self,
        artifacts: str | Path | None = None,
        *,
        root: str | Path | None = None,
        engine: Engine = "auto",
        precision: Precision = "auto",
        device: str = "auto",
        ensemble: EnsembleKind | None = None,
        workers: int = 0,
        embeddings: bool = False,
        allow_http: bool = False,
    ) -> None:
        """
        Args:
            artifacts: folder of a fitted run or of an export; None: `artifacts/`, or the released cascade if that holds none.
            root: folder that paths in `uri` are in and do not lead out of; without it only URLs are read.
            workers: threads that decode and find faces; 0 = cores, at most 16.
            embeddings: also add the networks' embeddings.
            allow_http: also fetch `http://` and `https://`, not only object stores.

        Raises:
            FacecadeError: neither a run nor an export, or one that is not fitted.
        """
        machine = Machine(device, engine=engine, precision=precision)
        self._cascade = load_cascade(open_fitted(cascade_folder(artifacts), machine), machine, ensemble=ensemble)
        self._widths = embedding_widths(self._cascade) if embeddings else None
        self._root, self._allow_http, self._workers = root, allow_http, workers or default_workers()

    def __call__(self, batch: Batch) -> Batch:
        """Predict a batch of N rows.

        Returns:
            The batch, of the same type and order, with the columns label (int32, -1 where a photograph cannot be read), mask, gender,
            band, flags (text), age, age_if_male, age_if_female, confidence, left, top, right, bottom, p0..p17 (float32), faces (int32, -1
            where nobody looked) and face (int32, 0 for none), and embedding (float32, D values a row) where it was asked for. Numbers
            that are unknown are NaN.

        Raises:
            FacecadeError: none of the columns `bytes`, `image` and `uri`.
        """
        source = next((name for name in INPUTS if name in batch), None)
        if source is None:
            raise FacecadeError(f"the batch has no column {', '.join(INPUTS)}", f"it has {', '.join(map(str, batch))}")
        given: Any = batch
        kept = {name: given[name] for name in given if name not in INPUTS or name == "uri"}
        images = [self._image(source, value) for value in given[source]]
        added = self._predict(images)
        if isinstance(batch, pd.DataFrame):
            if "embedding" in added:
                added["embedding"] = list(added["embedding"])  # type: ignore[assignment]
            own = [name for name in kept if name not in added]
            return pd.concat([batch[own], pd.DataFrame(added, index=batch.index)], axis=1)
        return {**kept, **added}  # type: ignore[return-value]

    def _image(self, source: str, value: Any) -> AnyImage:
        if source == "bytes":
            return ImageBytes("bytes of a batch", bytes(value) if value is not None else b"")
        if source == "image":
            pixels = np.asarray(value)
            valid = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
            return pixels if valid else _NoImage(f"pixels are {pixels.dtype} {pixels.shape}")
        uri = "" if value is None else str(value)
        if self._root is None and not is_url(uri):
            return _NoImage("a path, but no root is given")
        return ListedImage(uri, Path(self._root or "."), self._allow_http)

    def _predict(self, images: Sequence[AnyImage]) -> dict[str, np.ndarray]:
        columns = columns_of([*self._cascade.predict(images, self._workers)], self._widths)
        known = columns.label != NO_PREDICTION

        def words(codes: np.ndarray, names: Sequence[str]) -> np.ndarray:
            return np.where(known, np.array(names, object)[codes], "")

        added = {
            "label": columns.label.astype(np.int32),
            "mask": words(columns.mask, MASKS),
            "gender": words(columns.gender, GENDERS),
            "band": words(columns.band, BANDS),
            **dict(zip(AGES, columns.years.T.copy(), strict=True)),
            "confidence": columns.confidence,
            "flags": np.array(columns.flags, object),
            "faces": columns.faces.astype(np.int32),
            "face": columns.face.astype(np.int32),
            **dict(zip(SIDES, columns.box.T.copy(), strict=True)),
            **{f"p{label}": columns.probability[:, label].copy() for label in range(N_CLASSES)},
        }
        return added if columns.embedding is None else {**added, "embedding": columns.embedding}


class _NoImage:
    """A row without a photograph."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def fetch(self) -> ImageBytes:
        raise DecodeError("a row of a batch", self.reason)
