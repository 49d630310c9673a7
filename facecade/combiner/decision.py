"""The decision rule: weights on probabilities, fitted for macro-F1.

The most probable class maximizes accuracy; for macro-F1 rare classes must be predicted more often. Each of the six
gender × age groups gets one weight (18 free weights fit the noise of the rare masks).
"""

from __future__ import annotations

import numpy as np

from facecade.faces.labels import N_CLASSES
from facecade.report.metrics import confusion, macro_f1

GROUP_OF_CLASS = np.arange(N_CLASSES) % 6
NO_WEIGHTS = np.zeros(6)
WEIGHT_GRID = np.linspace(-1.2, 1.2, 25)
PENALTY = 0.002
"""Macro-F1 subtracted per nat of weight: without it weights drift along a flat score."""


def decide(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Predictions (N,), int64, from probabilities (N, 18) and log-weights of the six groups."""
    return scores(probability, weights).argmax(1)


def scores(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scores (N, 18) of the classes, in nats; `decide` takes the largest."""
    return np.log(probability + 1e-12) + weights[GROUP_OF_CLASS]


def margin(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far the best score of each row is ahead of the second, in nats, float (N,)."""
    second, first = np.sort(scores(probability, weights))[:, -2:].T
    return first - second


def runner_up(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The class (N,), int64, with the second-best score."""
    values = scores(probability, weights)
    np.put_along_axis(values, values.argmax(1)[:, None], -np.inf, axis=1)
    return values.argmax(1)


def fit_weights(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Log-weights (6,) that maximize macro-F1, by coordinate ascent.

    Args:
        probability: float (N, 18), out of fold: probabilities fitted on the same labels would be
            overconfident, and the weights useless.
        label: int (N,), classes.
    """
    log_p = np.log(probability + 1e-12)
    weights = np.zeros(6)
    best = float(macro_f1(confusion(label, log_p.argmax(1))))
    for _ in range(4):
        before = best
        for group in range(6):
            size = np.abs(np.delete(weights, group)).sum() + np.abs(WEIGHT_GRID)
            values = macro_f1(_confusions(log_p, label, weights, group)) - PENALTY * size
            if values.max() > best + 1e-9:
                best, weights[group] = float(values.max()), WEIGHT_GRID[values.argmax()]
        if best == before:
            break
    return weights


def _confusions(log_p: np.ndarray, label: np.ndarray, weights: np.ndarray, group: int) -> np.ndarray:
    """Confusion counts (len(WEIGHT_GRID), 18, 18) with each grid value as the weight of one group; the other weights
    stay.

    As that weight grows, a row switches once, from the best class of the other groups to the best of this one.
    """
    inside = np.equal(GROUP_OF_CLASS, group)
    own, own_value = _best(np.where(inside, log_p, -np.inf))
    other, other_value = _best(np.where(inside, -np.inf, log_p + weights[GROUP_OF_CLASS]))
    switch = np.searchsorted(WEIGHT_GRID, other_value - own_value, side="right")

    def switched(prediction: np.ndarray) -> np.ndarray:
        """Confusion counts of the rows that have switched at each grid value, with these predictions."""
        cells = (switch * N_CLASSES + label) * N_CLASSES + prediction
        counts = np.bincount(cells, minlength=(len(WEIGHT_GRID) + 1) * N_CLASSES**2)
        return counts.reshape(-1, N_CLASSES, N_CLASSES).cumsum(0)[:-1]

    return confusion(label, other) - switched(other) + switched(own)


def _best(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best class of each row of (N, 18), and its value."""
    best = values.argmax(1)
    return best, values[np.arange(len(values)), best]
