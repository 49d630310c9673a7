"""Many images: a row each on the page, and as the file that `infer` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from facecade.faces.labels import N_CLASSES
from facecade.pages.page import picture, table
from facecade.report.predictions import predictions_table
from facecade.web.limits import RefusedError
from facecade.web.predictor import PredictedImage


@dataclass(frozen=True)
class Line:
    """An image of a batch. crop: its first face, uint8 (h, w, 3), RGB. Images themselves are let go: a batch may be large."""

    name: str
    crop: np.ndarray
    faces: int
    prediction: int
    class_name: str
    probability: tuple[float, ...]
    years: tuple[float, float, float]
    flag: str

    @classmethod
    def of(cls, predicted: PredictedImage) -> Line:
        """What is kept: of several faces the one that `infer` answers for."""
        said = predicted.explanation
        face = said.faces[0]
        ages = [np.nan if age is None else age for age in (face.age, face.age_if_male, face.age_if_female)]
        return cls(
            predicted.name,
            face.crop,
            len(said.faces),
            face.prediction,
            face.name,
            face.probability,
            (ages[0], ages[1], ages[2]),
            said.flag,
        )


@dataclass(frozen=True)
class Unread:
    """An image of a batch that was refused."""

    name: str
    error: RefusedError


def predictions(lines: Sequence[Line | Unread]) -> pd.DataFrame:
    """The columns of predictions.csv, a row an image in the order given. A refused one has no answer, where `infer` would
    give the commonest class: nobody asked for a complete submission here."""
    read = [(row, line) for row, line in enumerate(lines) if isinstance(line, Line)]
    known = predictions_table(
        [line.name for _, line in read],
        np.array([line.prediction for _, line in read], int),
        np.array([line.probability for _, line in read]).reshape(-1, N_CLASSES),
        np.array([line.years for _, line in read]).reshape(-1, 3),
        [line.flag for _, line in read],
    )
    whole = known.astype({"ans": "Int64"}).set_axis([row for row, _ in read]).reindex(range(len(lines)))
    whole["ImageID"] = [line.name for line in lines]
    whole["flags"] = [line.flag if isinstance(line, Line) else f"unreadable: {line.error}" for line in lines]
    return whole


def batch_table(lines: Sequence[Line | Unread]) -> Markup:
    """A row for each image: its face, what is answered, and what is to be known of that."""
    rows = [_read(line) if isinstance(line, Line) else _unread(line) for line in lines]
    bad = sum(isinstance(line, Unread) for line in lines)
    count = f"{len(lines)} image{'s' if len(lines) > 1 else ''}" + (f", {bad} without an answer" if bad else "")
    head = ["face", "image", "answer", "sure", "age", "note"]
    return Markup('<div class="fc fc-batch"><p class="fc-faint">{}</p>{}</div>').format(count, table(head, rows))


def _read(line: Line) -> list[str]:
    age = "" if np.isnan(line.years[0]) else f"{line.years[0]:.0f}"
    several = f"{line.faces} faces; this is the largest" if line.faces > 1 else ""
    note = ", ".join(filter(None, [line.flag.replace(" ", ", "), several]))
    sure = f"{line.probability[line.prediction]:.2f}"
    return [picture(line.crop, "the face"), line.name, Markup("<b>{}</b>").format(line.class_name), sure, age, note]


def _unread(line: Unread) -> list[str]:
    why = Markup('<span class="fc-split">{}</span>').format(f"{line.error}; {line.error.hint}")
    return ["", line.name, "", "", "", why]
