"""How often confident predictions are wrong, with a bound that holds for new people.

The method is Learn then Test (Angelopoulos et al., arXiv:2110.01052), with a test over people, however alike the images of one person are.
Assumption: new people are drawn as those were on whom it was measured, independently. Conformal risk control (arXiv:2208.02814) needs a
loss that falls as fewer images are answered; the share of wrong answers among the answers need not.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from facecade.records import Reliability, Risk
from facecade.report.calibration import calibrate
from facecade.report.metrics import bootstrap_interval, bootstrap_weights, sum_by_person

LEVEL = 0.05
"""Probability, over draws of the people who were measured, that a bound is too low."""

STARTS = (6.0, 3.5, 1.0)
"""Log-odds of the probabilities at which a chain of tests starts; fixed before anything is measured."""

LOG_ODDS = np.arange(-4.0, STARTS[0] + 0.125, 0.125)
"""Of the probabilities from which images are answered; also all images are."""

ADDED = 2
"""People whose answers are all wrong, who are added to those measured. Without them few people without an error would have no risk at
all. With two the bound holds even in the worst case, where all images of a person are right or all are wrong (tests/report/test_risk.py)."""

STEPS = 30
"""Halvings of the interval in which a bound is searched."""


def upper_bound(right: np.ndarray, wrong: np.ndarray, level: float = LEVEL) -> float:
    """The upper limit of a one-sided t-interval over people, for the share of wrong answers among the answers of new people; 1 if there is none.

    Each person counts once, with all images: a share r is refuted if the mean of r · answers - wrong answers is so far above zero. The people
    added are those of `ADDED`.

    Args:
        right, wrong: float (P,), answers of each person, divided by the most images that a person has.
    """
    from scipy.stats import t as student  # takes longer to import than to predict an image

    wrong = np.append(wrong, np.ones(ADDED))
    answers, people = np.append(right, np.zeros(ADDED)) + wrong, len(wrong)
    far = student.ppf(1 - level, people - 1) / np.sqrt(people)

    def refuted(share: float) -> bool:
        difference = share * answers - wrong
        return bool(difference.mean() >= far * difference.std(ddof=1))

    low, high = 0.0, 1.0
    if not refuted(high):
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return high


def risks(probability: np.ndarray, right: np.ndarray, person: np.ndarray, reliability: Reliability) -> list[Risk]:
    """What answering only from a confidence promises, the most images answered first; fewer images always have a lower bound.

    A chain of tests goes from few answers to many, and a bound counts only with all those before it in its chain. So one error in
    `LEVEL` covers all confidences.

    Args:
        probability: float (N,), of the predicted class, of people who were held out. right: bool (N,). person: (N,).
        reliability: gives the confidence.
    """
    _, index = np.unique(person, return_inverse=True)
    most, limit = np.bincount(index).max(), 1.0
    measured: list[Risk] = []
    for log_odds in [*LOG_ODDS[::-1], -np.inf]:
        answered = probability >= expit(log_odds)
        count = answered.sum()
        if not count:
            continue
        wrong, correct = (np.bincount(index, answered & each) / most for each in (~right, right))
        bound = upper_bound(correct, wrong, LEVEL / len(STARTS))
        limit = bound if log_odds in STARTS else max(limit, bound)
        confidence = 0.0 if np.isinf(log_odds) else float(reliability.confidence(expit(log_odds)))
        error = float((answered & ~right).sum() / count)
        measured.append(Risk(confidence=confidence, coverage=float(answered.mean()), error=error, bound=limit))
    kept: list[Risk] = []
    for each in reversed(measured):
        if not kept or each.bound < kept[-1].bound:
            kept.append(each)
    return kept


def measure_reliability(
    probability: np.ndarray, right: np.ndarray, person: np.ndarray, fold: np.ndarray
) -> Reliability:
    """How often predictions of people who were held out are right, by the probability of the predicted class.

    Args:
        probability: float (N,), of the predicted class. right: bool (N,). person, fold: (N,).
    """
    calibrated = calibrate(probability, right, person, fold)
    return Reliability(log_odds=calibrated.log_odds, risks=tuple(risks(probability, right, person, calibrated)))


def risk_curve(
    confidence: np.ndarray, right: np.ndarray, person: np.ndarray, coverages: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of wrong predictions among the most confident ones, as measured: the share, and its 95 % interval over people.

    Args:
        confidence: float (N,). right: bool (N,). person: (N,). coverages: float (K,), shares of the images that are answered.

    Returns:
        value, low, high: float (K,).
    """
    rank = np.empty(len(confidence))
    rank[np.argsort(-confidence, kind="stable")] = np.arange(len(confidence))
    weights = bootstrap_weights(len(np.unique(person)))
    intervals = []
    for coverage in coverages:
        answered = rank < max(1, round(coverage * len(confidence)))
        sums = sum_by_person(person, np.column_stack([answered & ~right, answered]).astype(float))
        drawn = weights @ sums
        with np.errstate(invalid="ignore"):  # a draw may have nobody who is answered
            intervals.append(bootstrap_interval((answered & ~right).sum() / answered.sum(), drawn[:, 0] / drawn[:, 1]))
    value, low, high = np.array([(each.value, each.low, each.high) for each in intervals]).T
    return value, low, high
