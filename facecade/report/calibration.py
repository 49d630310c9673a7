"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecade.faces.labels import BANDS, GENDERS, MASKS

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Top-label calibration in equal-width bins of confidence (Guo et al., arXiv:1706.04599).

    confidence, accuracy: means (B,) of the bins that hold anything; count: rows of each. error: the expected
    calibration error, the mean distance between the two, weighted by rows.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float


def calibration(probability: np.ndarray, label: np.ndarray) -> Calibration:
    """Of probabilities (N, C) against labels (N,)."""
    confidence, right = probability.max(1), probability.argmax(1) == label
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    there = count > 0
    said, kept = (
        np.bincount(place, values, BINS)[there] / count[there] for values in (confidence, right.astype(float))
    )
    return Calibration(said, kept, count[there], float(np.abs(said - kept) @ count[there] / len(label)))


def by_axis(probability: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities (N, 18) of the classes → of mask (N, 3), gender (N, 2) and age band (N, 3)."""
    cells = probability.reshape(-1, len(MASKS), len(GENDERS), len(BANDS))
    return {"mask": cells.sum((2, 3)), "gender": cells.sum((1, 3)), "age band": cells.sum((1, 2))}
