"""Confident learning: how often labels of each class are wrong, and how probably each label is.

The method is that of Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR
2021, arXiv:1911.00068). Its error rates need calibrated probabilities, but a calibration on wrong labels is
underconfident. So the calibration is fitted to labels weighted by these rates, and the rates are estimated again, in
turns (label-noise robust logistic regression, Bootkrajang and Kabán, ECML 2012, doi:10.1007/978-3-642-33460-3_15).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

ROUNDS = 3
"""Turns of calibration and error rates; enough to converge."""

PRIOR_ROWS, PRIOR_ERROR_RATE = 20.0, 0.02
"""Prior of a class's error rate: its weight in rows, and its mean."""

MAX_INITIAL_ERROR_RATE = 0.2
"""Upper bound of a class's error rate before the first turn. Uninformative outputs would put half of all labels in
doubt."""


def thresholds(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Mean self-confidence (C,) of each class: the probability of j, over the rows labelled j; infinite for a class
    without rows.

    Args:
        probability: float (N, C). given: int (N,), labels as recorded.
    """
    own = np.eye(probability.shape[1], dtype=bool)[given]
    count = own.sum(0)
    return np.where(count > 0, (probability * own).sum(0) / np.maximum(count, 1), np.inf)


def confident_joint(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Counts (C, C) of rows labelled i (rows) that are confidently j (columns): j is the most probable of the classes
    whose probability reaches the class's threshold. Rows that reach no threshold are not counted."""
    classes = probability.shape[1]
    reached = probability >= thresholds(probability, given)
    counted, likely = reached.any(1), np.where(reached, probability, -1).argmax(1)
    pairs = given[counted] * classes + likely[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def error_rates(probability: np.ndarray, given: np.ndarray) -> np.ndarray:
    """P(recorded i | true j), (C, C), columns sum to 1: the confident joint, scaled to the number of rows of each
    label."""
    counts = confident_joint(probability, given) + np.eye(probability.shape[1])
    label_count = np.bincount(given, minlength=len(counts))
    return _rates(counts / counts.sum(1, keepdims=True) * label_count[:, None])


def _rates(joint: np.ndarray) -> np.ndarray:
    """P(i | j) from a joint (C, C) of recorded i and true j, and the prior."""
    classes = len(joint)
    off = np.full((classes, classes), PRIOR_ERROR_RATE / max(1, classes - 1))
    np.fill_diagonal(off, 1 - PRIOR_ERROR_RATE)
    joint = joint + PRIOR_ROWS * off
    return joint / joint.sum(0)


def _limit_error_rates(rates: np.ndarray, limit: float) -> np.ndarray:
    """The rates, scaled so that no class's error rate is above `limit`."""
    wrong = 1 - np.diagonal(rates)
    scaled = rates * np.minimum(1, limit / np.maximum(wrong, 1e-12))
    np.fill_diagonal(scaled, np.maximum(1 - wrong, 1 - limit))
    return scaled


@dataclass(frozen=True)
class LabelErrorModel:
    """Calibrated probabilities of the true class (multinomial logistic regression on stage outputs), and error rates of
    labels.

    mean, scale: (F,) of the values; weight (C, F), bias (C,); rates: P(recorded i | true j), (C, C).
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    rates: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, given: np.ndarray, classes: int) -> LabelErrorModel:
        """Fit to out-of-fold values (N, F) and labels (N,) 0..classes-1, some of them wrong."""
        mean, scale = values.mean(0), np.maximum(values.std(0), 1e-6)
        design = np.column_stack([(values - mean) / scale, np.ones(len(values))])
        recorded = np.eye(classes)[given]
        weight = _regress(design, recorded, np.zeros((classes, design.shape[1])))
        rates = _limit_error_rates(error_rates(softmax(design @ weight.T, axis=1), given), MAX_INITIAL_ERROR_RATE)
        for _ in range(ROUNDS):
            true = softmax(design @ weight.T, axis=1) * rates[given]
            true /= true.sum(1, keepdims=True)
            rates = _rates(recorded.T @ true)
            weight = _regress(design, true, weight)
        return cls(mean, scale, weight[:, :-1], weight[:, -1], rates)

    def probability(self, values: np.ndarray) -> np.ndarray:
        """Probability of the true class, from the values alone, (N, C)."""
        return softmax((values - self.mean) / self.scale @ self.weight.T + self.bias, axis=1)

    def posterior(self, values: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Probability of the true class, from the values and the recorded label, (N, C)."""
        return posterior(self.probability(values), given, self.rates)


def posterior(probability: np.ndarray, given: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Probability (N, C) of the true class, if labels are wrong with `rates`, independently of the image."""
    true = probability * rates[given]
    return true / true.sum(1, keepdims=True)


def _regress(design: np.ndarray, target: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Weights (C, F + 1) of a multinomial logistic regression on soft targets (N, C), with an L2 penalty of 1 on all
    but the intercept."""
    penalty = np.ones(start.shape)
    penalty[:, -1] = 1e-3

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(start.shape)
        logits = design @ weight.T
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        gradient = (np.exp(log_p) - target).T @ design + penalty * weight
        return float(-(target * log_p).sum() + 0.5 * (penalty * weight**2).sum()), gradient.ravel()

    result = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(result.x).reshape(start.shape)
