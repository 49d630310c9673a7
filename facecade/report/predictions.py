"""The predictions of `infer`: as a table, and as files written in chunks."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from facecade.base.artifact import Record, digest, valid_record, write_atomic, write_record, writing
from facecade.base.errors import FacecadeError
from facecade.base.fields import Count, Digest
from facecade.base.files import is_file
from facecade.faces.labels import BANDS, GENDERS, MASKS, decode


def predictions_table(
    ids: Sequence[str], predictions: np.ndarray, probability: np.ndarray, years: np.ndarray, flags: Sequence[str]
) -> pd.DataFrame:
    """One row per image, in the given order.

    Args:
        predictions: int (N,), classes. probability: float (N, 18).
        years: float (N, 3): the predicted age, and those of the male and of the female regressor; NaN for images that
            cannot be read.
    """
    mask, gender, band = decode(predictions)
    return pd.DataFrame(
        {
            "ImageID": ids,
            "ans": predictions,
            "mask": np.array(MASKS)[mask],
            "gender": np.array(GENDERS)[gender],
            "band": np.array(BANDS)[band],
            "age": years[:, 0].round(2),
            "age_if_male": years[:, 1].round(2),
            "age_if_female": years[:, 2].round(2),
            "confidence": probability[np.arange(len(predictions)), predictions].round(4),
            "flags": flags,
            **{f"p{label}": probability[:, label].round(5) for label in range(probability.shape[1])},
        }
    )


class State(Record):
    """.predictions.json: how far the hidden file of rows is written, and for which request."""

    made_by: ClassVar[str] = "infer DATA"

    request: Digest
    rows: Count
    bytes: Count


class PredictionFiles:
    """Writes predictions.csv and submission.csv, which appear when all predictions are made.

    Until then rows are appended to a hidden file in the same folder. Its length is saved after each chunk, so that
    an interrupted process resumes after the last complete chunk.
    """

    def __init__(self, output: Path, request: Mapping[str, Any]) -> None:
        """
        Args:
            request: identifies the images and the model; rows of another request are discarded.
        """
        self.output = output
        self._rows, self._state = output / ".predictions.csv", output / ".predictions.json"
        self._request = digest(request)
        self.done, self._bytes = 0, 0
        state = valid_record(self._state, State)
        written = self._rows.stat().st_size if is_file(self._rows) else 0
        if state and state.request == self._request and state.bytes <= written:
            self.done, self._bytes = state.rows, state.bytes
        with writing(self._rows):
            output.mkdir(parents=True, exist_ok=True)
            with open(self._rows, "ab") as file:
                file.truncate(self._bytes)

    def add(self, start: int, table: pd.DataFrame) -> None:
        """Append rows; `start` is the number of the first. Rows that are already written are skipped."""
        table = table.iloc[self.done - start :]
        text = table.to_csv(index=False, header=not self._bytes, lineterminator="\n", quoting=_quoting(table))
        with writing(self._rows), open(self._rows, "ab") as file:
            file.write(text.encode())
        self.done, self._bytes = self.done + len(table), self._rows.stat().st_size
        write_record(self._state, State(request=self._request, rows=self.done, bytes=self._bytes))

    def close(self, images: int) -> dict[str, Any]:
        """Write the final files.

        Args:
            images: number of rows that there must be.

        Returns:
            `images`, `flags` (count of each), the files, and `prediction` if there was one image.

        Raises:
            FacecadeError: another number of rows.
        """
        flags: Counter[str] = Counter()

        def submission(path: Path) -> None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                columns = ["ImageID", "ans", "flags"]
                parts = pd.read_csv(
                    self._rows, usecols=columns, dtype={"ImageID": str}, keep_default_na=False, chunksize=10_000
                )
                rows = 0
                for part in parts:
                    rows += len(part)
                    part[["ImageID", "ans"]].to_csv(
                        file, index=False, header=not file.tell(), lineterminator="\n", quoting=_quoting(part)
                    )
                    flags.update(part.loc[part["flags"] != "", "flags"].str.split(":").str[0])
                if rows != images:
                    raise FacecadeError(
                        f"{self._rows} has {rows} rows for {images} images", "remove it, and predict again"
                    )

        write_atomic(self.output / "submission.csv", submission)
        result: dict[str, Any] = {"images": self.done}
        if self.done == 1:
            blank = {name: [""] for name in ("age", "age_if_male", "age_if_female")}
            table = pd.read_csv(self._rows, dtype={"ImageID": str}, keep_default_na=False, na_values=blank)
            result["prediction"] = json.loads(table.iloc[0].to_json())  # NaN becomes null
        self._rows.replace(self.output / "predictions.csv")
        self._state.unlink()
        files = {name: str(self.output / f"{name}.csv") for name in ("submission", "predictions")}
        return {**result, "flags": dict(flags), **files}


def _quoting(table: pd.DataFrame) -> Literal[0, 2]:
    """How to quote rows. By default a name with a carriage return would be written without quotes, and read as two rows."""
    return csv.QUOTE_NONNUMERIC if table["ImageID"].str.contains("\r", regex=False).any() else csv.QUOTE_MINIMAL
