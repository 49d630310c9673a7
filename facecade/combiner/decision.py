"""The decision rule: weights on probabilities, learned for macro-F1.

The most probable class maximises accuracy; macro-F1 asks for more of the rare classes. Each of the six
gender × age groups gets one weight (18 free weights fit the noise of the rare masks).
"""

from __future__ import annotations

import numpy as np

from facecade.faces.labels import N_CLASSES
from facecade.report.metrics import confusion, macro_f1

GROUPS = np.arange(N_CLASSES) % 6
NO_WEIGHTS = np.zeros(6)
STEPS = np.linspace(-1.2, 1.2, 25)
SHRINK = 0.002
"""Macro-F1 that a weight of e must earn: without it weights drift along a flat score."""


def decide(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Answers (N,), int64, from probabilities (N, 18) and log-weights of the six groups."""
    return scores(probability, weights).argmax(1)


def scores(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What `decide` takes the largest of, (N, 18), in nats."""
    return np.log(probability + 1e-12) + weights[GROUPS]


def margin(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far each answer is ahead of the next class in the decision, in nats, float (N,)."""
    second, first = np.sort(scores(probability, weights))[:, -2:].T
    return first - second


def runner_up(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The class (N,), int64, that `decide` would answer were there not the one that it does."""
    values = scores(probability, weights)
    np.put_along_axis(values, values.argmax(1)[:, None], -np.inf, axis=1)
    return values.argmax(1)


def fit_weights(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Log-weights (6,) that maximise macro-F1 by coordinate ascent.

    Args:
        probability: float (N, 18), out of fold: on probabilities that saw their labels the
            weights would learn nothing.
        label: int (N,), classes.
    """
    log_p = np.log(probability + 1e-12)
    weights = np.zeros(6)
    best = float(macro_f1(confusion(label, log_p.argmax(1))))
    for _ in range(4):
        before = best
        for group in range(6):
            drift = np.abs(np.delete(weights, group)).sum() + np.abs(STEPS)
            values = macro_f1(_confusions(log_p, label, weights, group)) - SHRINK * drift
            if values.max() > best + 1e-9:
                best, weights[group] = float(values.max()), STEPS[values.argmax()]
        if best == before:
            break
    return weights


def _confusions(log_p: np.ndarray, label: np.ndarray, weights: np.ndarray, group: int) -> np.ndarray:
    """Confusion counts (len(STEPS), 18, 18) with each step as the weight of one group, the others as they are.

    As that weight grows, a row goes over once, from the best class of the other groups to the best of this one.
    """
    inside = np.equal(GROUPS, group)
    own, own_value = _best(np.where(inside, log_p, -np.inf))
    other, other_value = _best(np.where(inside, -np.inf, log_p + weights[GROUPS]))
    goes_over = np.searchsorted(STEPS, other_value - own_value, side="right")

    def gone(prediction: np.ndarray) -> np.ndarray:
        """Counts of the rows that have gone over by each step, if they are answered so."""
        cells = (goes_over * N_CLASSES + label) * N_CLASSES + prediction
        counts = np.bincount(cells, minlength=(len(STEPS) + 1) * N_CLASSES**2)
        return counts.reshape(-1, N_CLASSES, N_CLASSES).cumsum(0)[:-1]

    return confusion(label, other) - gone(other) + gone(own)


def _best(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best class of each row of (N, 18), and its value."""
    best = values.argmax(1)
    return best, values[np.arange(len(values)), best]
