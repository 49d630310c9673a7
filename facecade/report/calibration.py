"""Calibration: whether probabilities match frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from facecade.faces.labels import BANDS, GENDERS, MASKS

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Top-label calibration in equal-width bins of confidence (Guo et al., arXiv:1706.04599).

    confidence, accuracy: means (B,) of the non-empty bins; count: rows of each. error: the expected
    calibration error, the mean distance between the two, weighted by rows.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float


def calibration(probability: np.ndarray, label: np.ndarray) -> Calibration:
    """Calibration of probabilities (N, C) against labels (N,)."""
    top, right = probability.max(1), probability.argmax(1) == label
    index = np.minimum((top * BINS).astype(int), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    filled = count > 0
    confidence, accuracy = (
        np.bincount(index, values, BINS)[filled] / count[filled] for values in (top, right.astype(float))
    )
    error = float(np.abs(confidence - accuracy) @ count[filled] / len(label))
    return Calibration(confidence, accuracy, count[filled], error)


def sure_from(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """The lowest confidence at which predictions are right at least as often as wrong, as measured on people who were held out;
    None if they never are.

    The share of right predictions is fitted as a function that never falls as confidence grows (isotonic regression), so no bins
    are chosen.

    Args:
        confidence: float (N,), probability of each predicted class. right: bool (N,).
    """
    share = IsotonicRegression().fit_transform(confidence, right.astype(float))
    sure = confidence[share >= 0.5]
    return float(sure.min()) if len(sure) else None


def by_axis(probability: np.ndarray) -> dict[str, np.ndarray]:
    """Sum probabilities (N, 18) of the classes to those of mask (N, 3), gender (N, 2) and age band (N, 3)."""
    cells = probability.reshape(-1, len(MASKS), len(GENDERS), len(BANDS))
    return {"mask": cells.sum((2, 3)), "gender": cells.sum((1, 3)), "age band": cells.sum((1, 2))}
