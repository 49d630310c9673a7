"""Predictions as objects: one per image, and a sequence of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd

from facecade.faces.crop import Box
from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES, class_name, decode
from facecade.faces.words import prediction_in_words
from facecade.report.predictions import NO_PREDICTION, FaceOfImage, predictions_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_SHOWN = 20
"""Rows of a notebook's table; `to_pandas` has all."""


@dataclass(frozen=True)
class Prediction:
    """What is predicted for a face of an image: the largest, or each.

    image: the path, or the pixels, uint8 (height, width, 3), RGB, that were given. id: the path as given, or `image 0` by
    its index in the list. label: the class, 0..17, 6·mask + 3·gender + band; None for an image that cannot be read.
    probabilities: float (18,), by the combiner; NaN for such an image. confidence: the calibrated probability that the label is right,
    likewise. age, age_if_male, age_if_female: in years; NaN where no stage predicts
    years or the image cannot be read. box: the face in pixels; None where none was found and the center was cropped. face: its
    number, 1 for the largest, 0 where there is none. faces: how many the image has; None where the run looks for none.
    flags: `no-face`, `several-faces`, `unsure`, `no-file`, `unreadable: …`, `trained-on`, `pseudo-labelled`.
    """

    image: Path | np.ndarray = field(repr=False, compare=False)
    id: str
    label: int | None
    probabilities: np.ndarray = field(repr=False, compare=False)
    confidence: float
    age: float
    age_if_male: float
    age_if_female: float
    box: Box | None
    face: int
    faces: int | None
    flags: tuple[str, ...]

    @property
    def mask(self) -> str | None:
        """`wear`, `incorrect` or `normal` (no mask); like all parts of the class None for an image that cannot be read."""
        return None if self.label is None else MASKS[decode(self.label)[0]]

    @property
    def gender(self) -> str | None:
        """`male` or `female`."""
        return None if self.label is None else GENDERS[decode(self.label)[1]]

    @property
    def band(self) -> str | None:
        """`<30`, `30-59` or `>=60`."""
        return None if self.label is None else BANDS[decode(self.label)[2]]

    @property
    def name(self) -> str | None:
        """The class by its codes, e.g. `wear female 30-59`."""
        return None if self.label is None else class_name(self.label)

    @property
    def words(self) -> str:
        """For people, e.g. `mask · woman · 30–59 · about 45 years`; the flags for an image that cannot be read."""
        return " ".join(self.flags) if self.label is None else prediction_in_words(self.label, self.age)

    @property
    def probability(self) -> float:
        """Of the predicted class, by the combiner; NaN for an image that cannot be read."""
        return float("nan") if self.label is None else float(self.probabilities[self.label])

    @property
    def unsure(self) -> bool:
        """Whether the confidence is too low to answer: rather wrong than right, or below what `abstain` asks for."""
        return "unsure" in self.flags


class Predictions(Sequence[Prediction]):
    """Predictions in the order of the images, and of the faces of each."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self._predictions = tuple(predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        return Predictions(self._predictions[index]) if isinstance(index, slice) else self._predictions[index]

    def __len__(self) -> int:
        return len(self._predictions)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._predictions)

    def __repr__(self) -> str:
        return f"<{len(self)} predictions>\n{self._short().to_string()}" if self else "<0 predictions>"

    def _repr_html_(self) -> str:
        more = f"<p>{len(self) - ROWS_SHOWN} more</p>" if len(self) > ROWS_SHOWN else ""
        return self._short().to_html(index=False) + more

    def _short(self) -> pd.DataFrame:
        table = self[:ROWS_SHOWN].to_pandas()
        return table[["ImageID", "mask", "gender", "band", "age", "confidence", "flags"]]

    def to_pandas(self) -> pd.DataFrame:
        """A table with the columns of predictions.csv: `ImageID, ans, mask, gender, band, age, age_if_male, age_if_female,
        confidence, flags, faces, face, left, top, right, bottom, p0..p17`."""
        rows = self._predictions
        return predictions_table(
            [row.id for row in rows],
            np.array([NO_PREDICTION if row.label is None else row.label for row in rows], int),
            np.array([row.probabilities for row in rows], float).reshape(-1, N_CLASSES),
            np.array([row.confidence for row in rows], float),
            np.array([(row.age, row.age_if_male, row.age_if_female) for row in rows], float).reshape(-1, 3),
            [" ".join(row.flags) for row in rows],
            [FaceOfImage(row.box, row.face, row.faces) for row in rows],
        )

    def plot(self, columns: int = 4, most: int = 16) -> Figure:
        """The first `most` images with their face's box and prediction; needs matplotlib."""
        from facecade.plots import plot_predictions

        return plot_predictions(self._predictions[:most], columns)
