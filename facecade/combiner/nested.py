"""Nested scores: whatever is learned, choice of rule included, is learned without the fold it is scored on."""

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
    """Something fitted that gives probabilities (N, 18)."""

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray: ...

    def arrays(self) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Candidate:
    """A way to combine: how it is fitted, and what it may see."""

    fit: Callable[[StageOutputs, np.ndarray], Estimator]
    stage_outputs: StageOutputs


@dataclass(frozen=True)
class NestedResult:
    """Nested answers of a candidate.

    probability (N, 18) and answer (N,) of rows that neither rule nor decision weights saw; inner
    (folds,): macro-F1 on each fold's training rows, by cross-validation among them.
    """

    probability: np.ndarray
    prediction: np.ndarray
    inner: np.ndarray


def nested(
    candidate: Candidate, label: np.ndarray, fold: np.ndarray, advance: Callable[[], None] = lambda: None
) -> dict[bool, NestedResult]:
    """Score a candidate so that no answer has seen its own label.

    For each fold: a cross-validation over the other folds gives the probabilities that the decision
    weights are learned from; a fit on all the other folds answers for this one.

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
        rule = candidate.fit(candidate.stage_outputs.take(train), label[train])
        probability[test] = rule.probability(candidate.stage_outputs.take(test))
        prediction[False][test] = decide(probability[test], NO_WEIGHTS)
        prediction[True][test] = decide(probability[test], fit_weights(within, label[train]))
        inner[False][held_out] = macro_f1(confusion(label[train], decide(within, NO_WEIGHTS)))
        inner[True][held_out] = macro_f1(confusion(label[train], cross_decide(within, label[train], fold[train])))
        advance()
    return {weighted: NestedResult(probability, prediction[weighted], inner[weighted]) for weighted in (False, True)}


def cross_fit(candidate: Candidate, rows: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities (len(rows), 18) within some rows."""
    result = np.full((len(rows), N_CLASSES), np.nan)
    for held_out in np.unique(fold[rows]):
        test = fold[rows] == held_out
        rule = candidate.fit(candidate.stage_outputs.take(rows[~test]), label[rows[~test]])
        result[test] = rule.probability(candidate.stage_outputs.take(rows[test]))
    return result


def cross_decide(probability: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Answers (N,) by decision weights that did not see them: scored on the rows they were learned from, weights look
    better than none, and a choice between the two would always fall on them."""
    prediction = np.full(len(label), -1)
    for held_out in np.unique(fold):
        test = fold == held_out
        prediction[test] = decide(probability[test], fit_weights(probability[~test], label[~test]))
    return prediction


def select(results: Mapping[str, NestedResult], fold: np.ndarray) -> np.ndarray:
    """Answers (N,) when the candidate itself is chosen inside each fold's training rows.

    This is the honest score of "take the best": the best of several nested scores is a little too
    good, because the same rows chose it.
    """
    names = list(results)
    inner = np.array([results[name].inner for name in names])
    best = inner.argmax(0)[fold]
    return np.array([results[name].prediction for name in names])[best, np.arange(len(fold))]
