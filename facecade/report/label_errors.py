"""Confident learning: how often labels of each class are wrong, and how probably this one is.

The method is that of Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 2021,
arXiv:1911.00068). Its error rates depend on calibrated probabilities, and what is calibrated against wrong labels says too little:
so the calibration is fitted to labels trusted as far as those rates allow, and the rates anew, in turns (label-noise robust logistic
regression, Bootkrajang and Kabán, ECML 2012, doi:10.1007/978-3-642-33460-3_15).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

ROUNDS = 3
"""Turns of calibration and error rates; they have settled by then."""

PRIOR_ROWS, PRIOR_RATE = 20.0, 0.02
"""What is held of a class's error rate before any label is seen: as much as so many rows say, so many of them wrong."""

MOST = 0.2
"""Error rate of a class that is believed at first. StageOutputs that know nothing would have half of all labels wrong."""


def thresholds(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Mean self-confidence (C,) of each class: the probability of j, over the rows labelled j; infinite where there are none.

    Args:
        probability: float (N, C). given: int (N,), labels as recorded.
    """
    mine = np.eye(probability.shape[1], dtype=bool)[given]
    count = mine.sum(0)
    return np.where(count > 0, (probability * mine).sum(0) / np.maximum(count, 1), np.inf)


def confident_joint(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Counts (C, C) of rows labelled i (rows) that are confidently j (columns): j is the most probable of the classes
    whose probability reaches their thresholds. Rows that reach none are not counted."""
    classes = probability.shape[1]
    reached = probability >= thresholds(probability, given)
    counted, likely = reached.any(1), np.where(reached, probability, -1).argmax(1)
    pairs = given[counted] * classes + likely[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def error_rates(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
    """P(recorded i | true j), (C, C), columns summing to 1: the confident joint, scaled to as many rows of each label as there are."""
    counts = confident_joint(probability, given) + np.eye(probability.shape[1])
    there = np.bincount(given, minlength=len(counts))
    return _rates(counts / counts.sum(1, keepdims=True) * there[:, None])


def _rates(joint: np.ndarray) -> np.ndarray:
    """P(i | j) from a joint (C, C) of recorded i and true j, with what is held of it before."""
    classes = len(joint)
    off = np.full((classes, classes), PRIOR_RATE / max(1, classes - 1))
    np.fill_diagonal(off, 1 - PRIOR_RATE)
    joint = joint + PRIOR_ROWS * off
    return joint / joint.sum(0)


def _no_more_than(rates: np.ndarray, most: float) -> np.ndarray:
    """The same rates, with no class's errors above `most`."""
    wrong = 1 - np.diagonal(rates)
    scaled = rates * np.minimum(1, most / np.maximum(wrong, 1e-12))
    np.fill_diagonal(scaled, np.maximum(1 - wrong, 1 - most))
    return scaled


@dataclass(frozen=True)
class LabelErrorModel:
    """What voices say of the true class, calibrated (multinomial logistic regression), and how often labels are wrong.

    mean, scale: (F,) of the values; weight (C, F), bias (C,); rates: P(recorded i | true j), (C, C).
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    rates: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, given: np.ndarray, classes: int) -> LabelErrorModel:
        """Of values (N, F), each row's own model blind to its label, and labels (N,) 0..classes-1, some of them wrong."""
        mean, scale = values.mean(0), np.maximum(values.std(0), 1e-6)
        design = np.column_stack([(values - mean) / scale, np.ones(len(values))])
        recorded = np.eye(classes)[given]
        weight = _regress(design, recorded, np.zeros((classes, design.shape[1])))
        rates = _no_more_than(error_rates(softmax(design @ weight.T, axis=1), given), MOST)
        for _ in range(ROUNDS):
            true = softmax(design @ weight.T, axis=1) * rates[given]
            true /= true.sum(1, keepdims=True)
            rates = _rates(recorded.T @ true)
            weight = _regress(design, true, weight)
        return cls(mean, scale, weight[:, :-1], weight[:, -1], rates)

    def probability(self, values: np.ndarray) -> np.ndarray:
        """Of the true class, by the voices alone, (N, C)."""
        return softmax((values - self.mean) / self.scale @ self.weight.T + self.bias, axis=1)

    def posterior(self, values: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Of the true class, by the voices and by what is recorded, (N, C)."""
        return posterior(self.probability(values), given, self.rates)


def posterior(probability: np.ndarray, given: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Probability (N, C) of the true class, where a label goes wrong by `rates` whatever the image shows."""
    true = probability * rates[given]
    return true / true.sum(1, keepdims=True)


def _regress(design: np.ndarray, target: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Weights (C, F + 1) of a multinomial logistic regression on soft targets (N, C), with an L2 penalty of 1 on all but
    the constant."""
    free = np.ones(start.shape)
    free[:, -1] = 1e-3

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(start.shape)
        logits = design @ weight.T
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        slope = (np.exp(log_p) - target).T @ design + free * weight
        return float(-(target * log_p).sum() + 0.5 * (free * weight**2).sum()), slope.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x).reshape(start.shape)
