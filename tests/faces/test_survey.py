from __future__ import annotations

import numpy as np

from facecade.faces.crop import Box
from facecade.faces.survey import SEEN, largest_face


def test_a_survey_keeps_what_an_aligned_crop_needs() -> None:
    seen = np.zeros(3, SEEN)
    points = tuple((10.0 + place, 20.0 + place) for place in range(5))
    seen[0] = _row(1, Box(1, 2, 30, 40, 0.9, points))
    seen[1] = _row(1, Box(1, 2, 30, 40, 0.9))
    assert largest_face(seen[0]) == Box(1, 2, 30, 40, 0.9, points)
    assert largest_face(seen[1]) == Box(1, 2, 30, 40, 0.9)
    assert largest_face(seen[2]) is None


def _row(faces: int, box: Box) -> tuple[object, ...]:
    row = np.zeros((), SEEN)
    row["faces"], row["box"], row["probability"] = faces, box.values[:4], box.probability
    row["landmarks"] = box.landmarks or np.nan
    return tuple(row.item())
