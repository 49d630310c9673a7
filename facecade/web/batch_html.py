"""Several images: an HTML table, and the table that `infer` writes as predictions.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from facecade.faces.labels import N_CLASSES
from facecade.faces.words import band_note, class_in_words
from facecade.html.elements import picture, table
from facecade.report.predictions import NO_PREDICTION, FaceOfImage, predictions_table
from facecade.web.limits import RefusedError
from facecade.web.predictor import PredictedImage


@dataclass(frozen=True)
class BatchRow:
    """The prediction for a face of a batch. crop: uint8 (h, w, 3), RGB. The image itself is not kept, to save memory.

    note: why the years lie outside of the band, if they do.
    """

    name: str
    crop: np.ndarray
    face: FaceOfImage
    prediction: int
    probability: tuple[float, ...]
    confidence: float
    years: tuple[float, float, float]
    flags: tuple[str, ...]
    note: str

    @classmethod
    def of(cls, predicted: PredictedImage, every_face: bool = False) -> list[BatchRow]:
        """The row of a predicted image, with the face that `infer` predicts; or a row for each face."""
        explanation = predicted.explanation
        found = len(explanation.faces) if explanation.faces[0].box else 0 if explanation.detects else None
        rows = []
        for number, face in enumerate(explanation.faces[: None if every_face else 1], start=1):
            ages = [np.nan if age is None else age for age in (face.age, face.age_if_male, face.age_if_female)]
            rows.append(
                cls(
                    predicted.name,
                    face.crop,
                    FaceOfImage(face.box, number if face.box else 0, found),
                    face.prediction,
                    face.probability,
                    face.confidence,
                    (ages[0], ages[1], ages[2]),
                    face.flags,
                    band_note(face.prediction, face.age, explanation.cuts),
                )
            )
        return rows


@dataclass(frozen=True)
class RefusedImage:
    """An image of a batch that was refused."""

    name: str
    error: RefusedError


def predictions(rows: Sequence[BatchRow | RefusedImage]) -> pd.DataFrame:
    """The columns of predictions.csv, in the given order; a refused image has no prediction."""
    known = [row if isinstance(row, BatchRow) else None for row in rows]
    unknown, no_years = (np.nan,) * N_CLASSES, (np.nan,) * 3
    return predictions_table(
        [row.name for row in rows],
        np.array([row.prediction if row else NO_PREDICTION for row in known], int),
        np.array([row.probability if row else unknown for row in known]).reshape(-1, N_CLASSES),
        np.array([row.confidence if row else np.nan for row in known]),
        np.array([row.years if row else no_years for row in known]).reshape(-1, 3),
        [" ".join(row.flags) if isinstance(row, BatchRow) else f"unreadable: {row.error}" for row in rows],
        [row.face if row else FaceOfImage(None, 0, None) for row in known],
    )


def batch_table(rows: Sequence[BatchRow | RefusedImage]) -> Markup:
    """A table with one row per face: its crop, prediction, confidence, age and notes."""
    cells = [_predicted_cells(row) if isinstance(row, BatchRow) else _refused_cells(row) for row in rows]
    refused = sum(isinstance(row, RefusedImage) for row in rows)
    images = sum(isinstance(row, RefusedImage) or row.face.number <= 1 for row in rows)
    faces = f", {len(rows) - refused} faces" if len(rows) > images else ""
    count = f"{images} image{'s' if images > 1 else ''}{faces}" + (f", {refused} refused" if refused else "")
    head = ["face", "image", "prediction", "confidence", "age", "note"]
    return Markup('<div class="fc fc-batch"><p class="fc-faint">{}</p>{}</div>').format(count, table(head, cells))


def _predicted_cells(row: BatchRow) -> list[str]:
    age = "" if np.isnan(row.years[0]) else f"{row.years[0]:.0f}"
    _, number, faces = row.face
    several = f"{faces} faces; this is {'the largest' if number == 1 else f'number {number}'}"
    words = {"no-face": "no face found", "several-faces": several}
    note = ", ".join([*(words.get(flag, flag) for flag in row.flags), *filter(None, [row.note])])
    confidence = f"{row.confidence:.2f}"
    weak = Markup('<span class="fc-weak">{}</span>' if "no-face" in row.flags else "<b>{}</b>")
    prediction = weak.format(class_in_words(row.prediction))
    return [picture(row.crop, "the face"), row.name, prediction, confidence, age, note]


def _refused_cells(row: RefusedImage) -> list[str]:
    reason = Markup('<span class="fc-split">{}</span>').format(f"{row.error}; {row.error.hint}")
    return ["", row.name, "", "", "", reason]
