"""The decision rule: weights on probabilities, learned for macro-F1.

The most probable class maximises accuracy; macro-F1 asks for more of the rare classes. Each of the six
gender × age groups gets one weight (18 free weights fit the noise of the rare masks).
"""

from __future__ import annotations

import numpy as np

from faces.labels import N_CLASSES
from report.metrics import confusion, macro_f1

GROUPS = np.arange(N_CLASSES) % 6
NO_WEIGHTS = np.zeros(6)
STEPS = np.linspace(-1.2, 1.2, 25)
SHRINK = 0.002
"""Macro-F1 that a weight of e must earn: without it weights drift along a flat score."""


def decide(probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Answers (N,), int64, from probabilities (N, 18) and log-weights of the six groups."""
    return (np.log(probability + 1e-12) + weights[GROUPS]).argmax(1)


def fit_weights(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Log-weights (6,) that maximise macro-F1 by coordinate ascent.

    Args:
        probability: float (N, 18), out of fold: on probabilities that saw their labels the
            weights would learn nothing.
        label: int (N,), classes.
    """
    log_p = np.log(probability + 1e-12)
    weights = np.zeros(6)

    def worth(candidate: np.ndarray) -> float:
        answer = (log_p + candidate[GROUPS]).argmax(1)
        return float(macro_f1(confusion(label, answer))) - SHRINK * float(np.abs(candidate).sum())

    best = worth(weights)
    for _ in range(4):
        before = best
        for group in range(6):
            for step in STEPS:
                candidate = weights.copy()
                candidate[group] = step
                value = worth(candidate)
                if value > best + 1e-9:
                    best, weights = value, candidate
        if best == before:
            break
    return weights
