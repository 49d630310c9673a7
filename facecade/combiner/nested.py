"""Nested scores: everything that is fitted, and the choice of the method, excludes the fold that is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from facecade.combiner.decision import NO_WEIGHTS, decide, fit_weights
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import N_CLASSES
from facecade.report.metrics import confusion, macro_f1


class Estimator(Protocol):
    """The fitted part of a method; gives probabilities (N, 18)."""

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray: ...

    def arrays(self) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Candidate:
    """An estimator to score: the function that fits it, and its inputs."""

    fit: Callable[[StageOutputs, np.ndarray], Estimator]
    stage_outputs: StageOutputs


@dataclass(frozen=True)
class NestedResult:
    """Nested predictions of a candidate.

    probability (N, 18) and prediction (N,) of rows on which neither estimator nor decision weights were fitted;
    inner (folds,): macro-F1 on each fold's training rows, by cross-validation among them.
    """

    probability: np.ndarray
    prediction: np.ndarray
    inner: np.ndarray


def nested(
    candidate: Candidate, label: np.ndarray, fold: np.ndarray, advance: Callable[[], None] = lambda: None
) -> dict[bool, NestedResult]:
    """Predict each row with a candidate that was fitted without its label.

    For each fold: a cross-validation over the other folds gives the probabilities on which the decision
    weights are fitted; a fit on all the other folds predicts this one.

    Args:
        label: int (N,) classes. fold: int (N,), by person.

    Returns:
        The result with decision weights (True) and without (False).
    """
    probability = np.full((len(label), N_CLASSES), np.nan)
    folds = int(fold.max()) + 1
    prediction = {weighted: np.full(len(label), -1) for weighted in (False, True)}
    inner = {weighted: np.zeros(folds) for weighted in (False, True)}
    for held_out in range(folds):
        test, train = np.flatnonzero(fold == held_out), np.flatnonzero(fold != held_out)
        within = cross_fit(candidate, train, label, fold)
        estimator = candidate.fit(candidate.stage_outputs.take(train), label[train])
        probability[test] = estimator.probability(candidate.stage_outputs.take(test))
        prediction[False][test] = decide(probability[test], NO_WEIGHTS)
        prediction[True][test] = decide(probability[test], fit_weights(within, label[train]))
        inner[False][held_out] = macro_f1(confusion(label[train], decide(within, NO_WEIGHTS)))
        inner[True][held_out] = macro_f1(confusion(label[train], cross_decide(within, label[train], fold[train])))
        advance()
    return {weighted: NestedResult(probability, prediction[weighted], inner[weighted]) for weighted in (False, True)}


def cross_fit(candidate: Candidate, rows: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities (len(rows), 18) of some rows, by cross-validation among them."""
    result = np.full((len(rows), N_CLASSES), np.nan)
    for held_out in np.unique(fold[rows]):
        test = fold[rows] == held_out
        estimator = candidate.fit(candidate.stage_outputs.take(rows[~test]), label[rows[~test]])
        result[test] = estimator.probability(candidate.stage_outputs.take(rows[test]))
    return result


def cross_decide(probability: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Predictions (N,) by decision weights that were fitted on the other folds. Scored on their own rows, weights look
    better than none, and the choice between the two would always fall on them."""
    prediction = np.full(len(label), -1)
    for held_out in np.unique(fold):
        test = fold == held_out
        prediction[test] = decide(probability[test], fit_weights(probability[~test], label[~test]))
    return prediction


def select(results: Mapping[str, NestedResult], fold: np.ndarray) -> np.ndarray:
    """Predictions (N,) when the candidate, too, is chosen on each fold's training rows.

    Their score is unbiased. The best of several nested scores is a little too high, because the same rows
    chose it.
    """
    names = list(results)
    inner = np.array([results[name].inner for name in names])
    best = inner.argmax(0)[fold]
    return np.array([results[name].prediction for name in names])[best, np.arange(len(fold))]
