"""The predictions of `infer`: as a table, and as files written in chunks."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from facecade.base.artifact import Record, digest, valid_record, write_atomic, write_record, writing
from facecade.base.errors import FacecadeError
from facecade.base.fields import Count, Digest
from facecade.base.files import is_file
from facecade.faces.boxes import SIDES
from facecade.faces.crop import Box
from facecade.faces.labels import BANDS, GENDERS, MASKS, decode

NO_PREDICTION = -1
"""In place of a class, for an image that cannot be read."""

UNANSWERED = ("unsure", "no-file", "unreadable")
"""Flags of images that are not answered."""

SUBMISSION, PREDICTIONS = "submission.csv", "predictions.csv"


class FaceOfImage(NamedTuple):
    """The face that a row is about. box: in pixels of the image; None where the center was cropped. number: 1 for the largest;
    0 where there is no face. faces: how many were found; None where nobody looked."""

    box: Box | None
    number: int
    faces: int | None


def predictions_table(
    ids: Sequence[str],
    predictions: np.ndarray,
    probability: np.ndarray,
    confidence: np.ndarray,
    years: np.ndarray,
    flags: Sequence[str],
    faces: Sequence[FaceOfImage],
) -> pd.DataFrame:
    """One row per face, in the given order; images that cannot be read have a row without a prediction.

    Args:
        predictions: int (N,), classes, or NO_PREDICTION. probability: float (N, 18). confidence: float (N,).
        years: float (N, 3): the predicted age, and those of the male and of the female regressor; NaN where unknown.
    """
    known = predictions != NO_PREDICTION
    mask, gender, band = decode(np.where(known, predictions, 0))
    boxes = np.array([[getattr(box, side) if box else np.nan for side in SIDES] for box, _, _ in faces], float)
    return pd.DataFrame(
        {
            "ImageID": ids,
            "ans": pd.Series(predictions).astype("Int64").where(known),
            "mask": np.where(known, np.array(MASKS)[mask], ""),
            "gender": np.where(known, np.array(GENDERS)[gender], ""),
            "band": np.where(known, np.array(BANDS)[band], ""),
            "age": years[:, 0].round(2),
            "age_if_male": years[:, 1].round(2),
            "age_if_female": years[:, 2].round(2),
            "confidence": np.where(known, confidence, np.nan).round(4),
            "flags": flags,
            "faces": pd.Series([face.faces for face in faces], dtype="Int64"),
            "face": pd.Series([face.number or None for face in faces], dtype="Int64"),
            **dict(zip(SIDES, boxes.reshape(-1, 4).T.round(1), strict=True)),
            **{f"p{label}": probability[:, label].round(5) for label in range(probability.shape[1])},
        }
    )


class State(Record):
    """.predictions.json: how far the hidden file of rows is written, and for which request."""

    made_by: ClassVar[str] = "infer DATA"

    request: Digest
    rows: Count
    images: Count
    bytes: Count


class PredictionFiles:
    """Writes predictions.csv, and submission.csv where it is asked for, which appear when all predictions are made.

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
        self.images, self._done, self._bytes = 0, 0, 0
        state = valid_record(self._state, State)
        written = self._rows.stat().st_size if is_file(self._rows) else 0
        if state and state.request == self._request and state.bytes <= written:
            self.images, self._done, self._bytes = state.images, state.rows, state.bytes
        with writing(self._rows):
            output.mkdir(parents=True, exist_ok=True)
            with open(self._rows, "ab") as file:
                file.truncate(self._bytes)

    def add(self, image: np.ndarray, table: pd.DataFrame) -> None:
        """Append all rows of some images; `image`: of each row, by its number. Rows that are already written are skipped."""
        table = table[image >= self.images]
        text = table.to_csv(index=False, header=not self._bytes, lineterminator="\n", quoting=quoting(table))
        with writing(self._rows), open(self._rows, "ab") as file:
            file.write(text.encode())
        self._done, self._bytes = self._done + len(table), self._rows.stat().st_size
        self.images = max(self.images, int(image[-1]) + 1) if len(image) else self.images
        write_record(self._state, State(request=self._request, rows=self._done, images=self.images, bytes=self._bytes))

    def close(self, images: int, unread: int | None) -> dict[str, Any]:
        """Write the final files.

        Args:
            images: number that there must be.
            unread: class that submission.csv has for images that cannot be read; None where no submission.csv is asked for. One of
                before is then removed.

        Returns:
            `images`, `rows`, `counts` (of each mask, gender and band), `flags` (count of each), the files, and `prediction` if
            there is one row.

        Raises:
            FacecadeError: another number of images.
        """
        count = _Counts()

        def submission(path: Path) -> None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                for part in self._parts():
                    count.add(part)
                    part.loc[part["ans"] == "", "ans"] = str(unread)
                    part[["ImageID", "ans"]].to_csv(
                        file, index=False, header=not file.tell(), lineterminator="\n", quoting=quoting(part)
                    )
                self._require(count.rows, images)

        files = {"predictions": str(self.output / PREDICTIONS)}
        if unread is None:
            for part in self._parts():
                count.add(part)
            self._require(count.rows, images)
            (self.output / SUBMISSION).unlink(missing_ok=True)
        else:
            write_atomic(self.output / SUBMISSION, submission)
            files["submission"] = str(self.output / SUBMISSION)
        result: dict[str, Any] = {"images": images, "rows": count.rows, "counts": count.labels}
        if count.rows == 1:
            result["prediction"] = read_first(self._rows, 1)[0]
        self._rows.replace(self.output / PREDICTIONS)
        self._state.unlink()
        return {**result, "flags": dict(sorted(count.flags.items())), **files}

    def _parts(self) -> Iterator[pd.DataFrame]:
        """The written rows, some thousand at a time."""
        columns = ["ImageID", "ans", "flags", *_Counts.COLUMNS]
        parts = pd.read_csv(self._rows, usecols=columns, dtype=str, keep_default_na=False, chunksize=10_000)
        yield from parts

    def _require(self, rows: int, images: int) -> None:
        if rows != self._done or self.images != images:
            raise FacecadeError(
                f"{self._rows} has {rows} rows for {self.images} of {images} images", "remove it, and predict again"
            )


class _Counts:
    """What the rows of predictions.csv hold, counted."""

    COLUMNS = ("mask", "gender", "band")

    def __init__(self) -> None:
        self.rows, self.flags = 0, Counter[str]()
        self.labels = {
            column: dict.fromkeys(names, 0) for column, names in zip(self.COLUMNS, (MASKS, GENDERS, BANDS), strict=True)
        }

    def add(self, part: pd.DataFrame) -> None:
        self.rows += len(part)
        for text, count in part["flags"].value_counts().items():
            for flag in split_flags(str(text)):
                self.flags[flag.partition(":")[0]] += int(count)
        for column, of_name in self.labels.items():
            for name, count in part[column].value_counts().items():
                if name in of_name:
                    of_name[str(name)] += int(count)


def face_flags(detects: bool, box: Box | None, faces: int | None, unsure: bool, known: str = "") -> tuple[str, ...]:
    """The flags of a face.

    Args:
        detects: whether a detector looks for faces. faces: how many the image has.
        unsure: whether the confidence is too low to answer.
        known: `trained-on` or the like.
    """
    flags = {
        "no-face": detects and box is None,
        "several-faces": (faces or 0) > 1,
        "unsure": unsure,
        known: bool(known),
    }
    return tuple(name for name, applies in flags.items() if applies)


def predictions_file(output: Path) -> Path:
    """The file in an output folder to score: submission.csv, which has a class for every image, where there is one."""
    return output / SUBMISSION if is_file(output / SUBMISSION) else output / PREDICTIONS


def split_flags(text: str) -> list[str]:
    """The flags of a row; the reason why an image is `unreadable: …` has spaces."""
    return [text] if text.startswith("unreadable") else text.split()


def read_first(path: Path, rows: int) -> list[dict[str, Any]]:
    """The first rows of predictions.csv, blank numbers as None."""
    texts = ["ImageID", "mask", "gender", "band", "flags"]
    numbers = pd.read_csv(path, nrows=0).columns.difference(texts).tolist()
    table = pd.read_csv(
        path,
        nrows=rows,
        dtype=dict.fromkeys(texts, str) | dict.fromkeys(("ans", "faces", "face"), "Int64"),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
    )
    return json.loads(table.to_json(orient="records"))  # type: ignore[no-any-return]  # NaN becomes null


def quoting(table: pd.DataFrame) -> Literal[0, 2]:
    """How to quote rows. By default a name with a carriage return would be written without quotes, and read as two rows."""
    return csv.QUOTE_NONNUMERIC if table["ImageID"].str.contains("\r", regex=False).any() else csv.QUOTE_MINIMAL
