"""Fixed explanations, for tests without networks."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from facecade.combiner.contributions import MarginContributions
from facecade.faces.crop import Box
from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES
from facecade.inference.explain import ExplainedFace, Explanation, Regressor, StagePrediction

MASK = StagePrediction("mask", "mask", "wear", 0.9, (0.8, 0.95), None, (), 2, 2)
AGE = StagePrediction("age-male", "age", "30-59", None, (), 47.5, (28.0, 67.0), 1, 2)


def explained_face(
    box: Box | None = None, contributions: bool = True, flag: str = "", age: float = 47.5
) -> ExplainedFace:
    """A man of 30 to 59 with a mask; the networks disagree about his age."""
    probability = np.full(N_CLASSES, 0.4 / (N_CLASSES - 1))
    probability[1] = 0.6
    cells = probability.reshape(3, 2, 3)
    parts = {"soft vote: mask": 1.5, "trees: age-male": -0.25, "constant": 0.1}
    return ExplainedFace(
        box,
        np.full((24, 18, 3), 90, np.uint8),
        1,
        "wear male 30-59",
        tuple(flag.split()),
        0.55,
        tuple(probability.tolist()),
        dict(zip(MASKS, cells.sum((1, 2)).tolist())),
        dict(zip(GENDERS, cells.sum((0, 2)).tolist())),
        dict(zip(BANDS, cells.sum((0, 1)).tolist())),
        age,
        47.5,
        51.0,
        (
            Regressor("male", 47.5, (28.0, 67.0), (29.5, 58.25), "30-59"),
            Regressor("female", 51.0, (50.0, 52.0), (31.0, 59.0), "30-59"),
        ),
        (MASK, AGE),
        MASK,
        AGE,
        MarginContributions(1, 2, 1.35, parts) if contributions else None,
    )


def explanation(*faces: ExplainedFace, flag: str = "", detects: bool = True) -> Explanation:
    cuts = {"male": (29.5, 58.25), "female": (31.0, 59.0)}
    return Explanation((80, 60), detects, "XGBoost", cuts, faces or (explained_face(flag=flag),))


def encoded(format: str = "JPEG", size: tuple[int, int] = (60, 80), mode: str = "RGB") -> bytes:
    """The bytes of a black image."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, format)
    return file.getvalue()
