"""Calibration: whether probabilities match frequencies, and confidences that do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from facecade.faces.labels import BANDS, GENDERS, MASKS
from facecade.records import EDGE, UNCHANGED, Reliability

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
    return confidence_calibration(probability.max(1), probability.argmax(1) == label)


def confidence_calibration(confidence: np.ndarray, right: np.ndarray) -> Calibration:
    """Calibration of confidences (N,) against whether predictions are right, bool (N,)."""
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    filled = count > 0
    mean, accuracy = (
        np.bincount(index, values, BINS)[filled] / count[filled] for values in (confidence, right.astype(float))
    )
    error = float(np.abs(mean - accuracy) @ count[filled] / len(right))
    return Calibration(mean, accuracy, count[filled], error)


def fit_log_odds(probability: np.ndarray, right: np.ndarray, people: int) -> tuple[float, float, float]:
    """Fit the calibration of `records.Reliability`, the only one with three numbers that can also leave probabilities as they are.

    Isotonic regression has no shape to assume, but gives many images the same confidence, and fits the noise of few people. One
    person's weight pulls towards no change.

    Args:
        probability: float (N,), of the predicted class. right: bool (N,). people: how many the N images are of.
    """
    from scipy.optimize import minimize  # takes longer to import than to predict an image

    p = np.clip(probability, EDGE, 1 - EDGE)
    inputs = np.column_stack([np.log(p), -np.log1p(-p), np.ones(len(p))])

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds, change = inputs @ values, values - UNCHANGED
        mean = np.logaddexp(0, np.where(right, -log_odds, log_odds)).mean()
        gradient = inputs.T @ (expit(log_odds) - right) / len(p)
        return float(mean + change @ change / (2 * people)), gradient + change / people

    limits = [(0.01, 100), (0.01, 100), (-100, 100)]
    fitted = minimize(loss, np.array(UNCHANGED), jac=True, method="L-BFGS-B", bounds=limits).x
    return float(fitted[0]), float(fitted[1]), float(fitted[2])


def cross_fitted(probability: np.ndarray, right: np.ndarray, person: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Confidences (N,), each by a calibration that was fitted on the other folds' people.

    Args:
        probability: float (N,), of the predicted class. right: bool (N,). person, fold: (N,).
    """
    confidence = np.empty(len(probability))
    for held_out in np.unique(fold):
        test = fold == held_out
        values = fit_log_odds(probability[~test], right[~test], len(np.unique(person[~test])))
        confidence[test] = Reliability(log_odds=values).confidence(probability[test])
    return confidence


def calibrate(probability: np.ndarray, right: np.ndarray, person: np.ndarray, fold: np.ndarray) -> Reliability:
    """The calibration of confidences, if it lowers the log loss of people on whom it was not fitted; else none. Arguments as of `cross_fitted`."""

    def log_loss(confidence: np.ndarray) -> float:
        return float(-np.log(np.where(right, confidence, 1 - confidence)).mean())

    helps = log_loss(cross_fitted(probability, right, person, fold)) < log_loss(Reliability().confidence(probability))
    return Reliability(log_odds=fit_log_odds(probability, right, len(np.unique(person))) if helps else UNCHANGED)


def by_axis(probability: np.ndarray) -> dict[str, np.ndarray]:
    """Sum probabilities (N, 18) of the classes to those of mask (N, 3), gender (N, 2) and age band (N, 3)."""
    cells = probability.reshape(-1, len(MASKS), len(GENDERS), len(BANDS))
    return {"mask": cells.sum((2, 3)), "gender": cells.sum((1, 3)), "age band": cells.sum((1, 2))}
