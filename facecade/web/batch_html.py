"""Several images: an HTML table, and the table that `infer` writes as predictions.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from facecade.faces.labels import N_CLASSES
from facecade.html.elements import picture, table
from facecade.report.predictions import predictions_table
from facecade.web.limits import RefusedError
from facecade.web.predictor import PredictedImage


@dataclass(frozen=True)
class BatchRow:
    """The prediction for one image of a batch. crop: its first face, uint8 (h, w, 3), RGB. The image itself is not kept, to save memory."""

    name: str
    crop: np.ndarray
    faces: int
    prediction: int
    class_name: str
    probability: tuple[float, ...]
    years: tuple[float, float, float]
    flag: str

    @classmethod
    def from_prediction(cls, predicted: PredictedImage) -> BatchRow:
        """The row of a predicted image; of several faces the one that `infer` predicts."""
        explanation = predicted.explanation
        face = explanation.faces[0]
        ages = [np.nan if age is None else age for age in (face.age, face.age_if_male, face.age_if_female)]
        return cls(
            predicted.name,
            face.crop,
            len(explanation.faces),
            face.prediction,
            face.name,
            face.probability,
            (ages[0], ages[1], ages[2]),
            explanation.flag,
        )


@dataclass(frozen=True)
class RefusedImage:
    """An image of a batch that was refused."""

    name: str
    error: RefusedError


def predictions(rows: Sequence[BatchRow | RefusedImage]) -> pd.DataFrame:
    """The columns of predictions.csv, one row per image in the given order. A refused image has no prediction; `infer` would
    give it the most common class, because a submission must be complete."""
    predicted = [(index, row) for index, row in enumerate(rows) if isinstance(row, BatchRow)]
    table = predictions_table(
        [row.name for _, row in predicted],
        np.array([row.prediction for _, row in predicted], int),
        np.array([row.probability for _, row in predicted]).reshape(-1, N_CLASSES),
        np.array([row.years for _, row in predicted]).reshape(-1, 3),
        [row.flag for _, row in predicted],
    )
    complete = table.astype({"ans": "Int64"}).set_axis([index for index, _ in predicted]).reindex(range(len(rows)))
    complete["ImageID"] = [row.name for row in rows]
    complete["flags"] = [row.flag if isinstance(row, BatchRow) else f"unreadable: {row.error}" for row in rows]
    return complete


def batch_table(rows: Sequence[BatchRow | RefusedImage]) -> Markup:
    """A table with one row per image: face, prediction, probability, age and notes."""
    cells = [_predicted_cells(row) if isinstance(row, BatchRow) else _refused_cells(row) for row in rows]
    refused = sum(isinstance(row, RefusedImage) for row in rows)
    count = f"{len(rows)} image{'s' if len(rows) > 1 else ''}" + (f", {refused} refused" if refused else "")
    head = ["face", "image", "prediction", "probability", "age", "note"]
    return Markup('<div class="fc fc-batch"><p class="fc-faint">{}</p>{}</div>').format(count, table(head, cells))


def _predicted_cells(row: BatchRow) -> list[str]:
    age = "" if np.isnan(row.years[0]) else f"{row.years[0]:.0f}"
    several = f"{row.faces} faces; this is the largest" if row.faces > 1 else ""
    note = ", ".join(filter(None, [row.flag.replace(" ", ", "), several]))
    probability = f"{row.probability[row.prediction]:.2f}"
    return [picture(row.crop, "the face"), row.name, Markup("<b>{}</b>").format(row.class_name), probability, age, note]


def _refused_cells(row: RefusedImage) -> list[str]:
    reason = Markup('<span class="fc-split">{}</span>').format(f"{row.error}; {row.error.hint}")
    return ["", row.name, "", "", "", reason]
