"""The columns of parts and batches are those of predictions.csv."""

from __future__ import annotations

import numpy as np

from facecade.inference.cascade import Rows
from facecade.inference.columns import columns_of
from facecade.report.predictions import NO_PREDICTION, FaceOfImage


def test_the_confidence_is_the_calibrated_one() -> None:
    """Not the probability of the class; NaN where nothing was predicted."""
    probability = np.full((2, 18), 0.5 / 17)
    probability[0, 4], probability[1] = 0.5, np.nan
    rows = Rows(
        label=np.array([4, NO_PREDICTION]),
        probability=probability,
        confidence=np.array([0.7, np.nan]),
        years=np.full((2, 3), np.nan),
        faces=[FaceOfImage(None, 0, None)] * 2,
        flags=[(), ("no-file",)],
        image=np.arange(2),
    )
    np.testing.assert_array_equal(columns_of([rows]).confidence, np.array([0.7, np.nan], np.float32))
