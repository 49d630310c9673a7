from __future__ import annotations

import numpy as np

from facecade.faces.crop import Box
from facecade.faces.survey import SURVEY_DTYPE, largest_face


def test_a_survey_row_keeps_the_landmarks() -> None:
    rows = np.zeros(3, SURVEY_DTYPE)
    points = tuple((10.0 + index, 20.0 + index) for index in range(5))
    rows[0] = _row(1, Box(1, 2, 30, 40, 0.9, points))
    rows[1] = _row(1, Box(1, 2, 30, 40, 0.9))
    assert largest_face(rows[0]) == Box(1, 2, 30, 40, 0.9, points)
    assert largest_face(rows[1]) == Box(1, 2, 30, 40, 0.9)
    assert largest_face(rows[2]) is None


def _row(faces: int, box: Box) -> tuple[object, ...]:
    row = np.zeros((), SURVEY_DTYPE)
    row["faces"], row["box"], row["probability"] = faces, box.values[:4], box.probability
    row["landmarks"] = box.landmarks or np.nan
    return tuple(row.item())
