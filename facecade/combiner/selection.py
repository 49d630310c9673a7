"""Which combining method is best, by nested score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.arrays import write_arrays
from facecade.combiner.decision import NO_WEIGHTS, fit_weights
from facecade.combiner.estimators import fit_cuts_by_gender
from facecade.combiner.methods import METHODS, UNSTACKED, FittedCombiner, methods_for, new_estimator, save
from facecade.combiner.nested import Candidate, NestedResult, nested, select
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import GENDERS, N_CLASSES
from facecade.recipe import CombinerRecipe
from facecade.records import CombinerRecord, CombinerSummary, Reliability
from facecade.report.metrics import as_json, class_f1, confusion, macro_f1, paired_difference, score
from facecade.report.nested import NESTED
from facecade.report.risk import measure_reliability


@dataclass(frozen=True)
class Selection:
    """Nested results of every method, and the choice among them.

    aligned: out-of-fold outputs of N rows. label: classes (N,). fold: (N,). results: by method, the simplest first. chosen:
    predictions (N,) of the method that was best on the folds not scored.
    """

    aligned: StageOutputs
    label: np.ndarray
    fold: np.ndarray
    results: dict[str, NestedResult]
    chosen: np.ndarray

    @property
    def simplest(self) -> str:
        """The first method that these stages allow."""
        return next(iter(self.results))

    @cached_property
    def best(self) -> str:
        """The eligible method with the highest nested macro-F1; among equals the simplest."""
        scores = {
            name: float(macro_f1(confusion(self.label, result.prediction)))
            for name, result in _eligible(self.results).items()
        }
        return max(scores, key=lambda name: scores[name])

    def scores(self, person: np.ndarray, age: np.ndarray) -> dict[str, Any]:
        """Scores with intervals over people, cuts and class frequencies: fields of `records.CombinerSummary`.

        Args:
            person: of each row, (N,).
            age: recorded ages, float (N,).
        """
        label, years, cuts = self.label, self.aligned.age(), fit_cuts_by_gender(self.aligned, self.label)
        best, simplest = self.results[self.best].prediction, self.results[self.simplest].prediction
        return {
            "nested": {
                name: as_json(score(label, result.prediction, person, age, years))
                for name, result in self.results.items()
            },
            "nested_choice": as_json(score(label, self.chosen, person, age, years)),
            "simplest": self.simplest,
            "gain_over_simplest": paired_difference(label, best, simplest, person).json(),
            "per_class_f1": class_f1(label, self.chosen),
            "cuts": {} if cuts is None else dict(zip(GENDERS, map(tuple, cuts.round(2).tolist()), strict=True)),
            "images": len(label),
            "people": len(np.unique(person)),
            "prior": (np.bincount(label, minlength=N_CLASSES) / len(label)).tolist(),
        }

    def reliability(self, name: str, person: np.ndarray) -> Reliability:
        """How often the nested predictions of a method are right; `person`: of each row, (N,)."""
        result = self.results[name]
        probability = result.probability[np.arange(len(self.label)), result.prediction]
        return measure_reliability(probability, result.prediction == self.label, person, self.fold)

    def save(
        self, folder: Path, summary: CombinerSummary, files: Mapping[str, str], person: np.ndarray
    ) -> CombinerRecord:
        """Fit the best method, and those that stack nothing, on all rows; save them with the nested predictions.

        Args:
            files: hashes of other files in the folder, by name. person: of each row, (N,).

        Returns:
            The record of the best method.
        """
        nested_content = write_arrays(
            folder / NESTED,
            {
                "label": self.label,
                "prediction": self.chosen,
                "probability": self.results[self.best].probability.astype(np.float32),
                "years": self.aligned.age(),
                "methods": np.array(list(self.results)),
                "predictions": np.stack([result.prediction for result in self.results.values()]),
            },
        )

        def fitted(name: str) -> FittedCombiner:
            return fit_final(name, self.results[name], self.aligned, self.label, summary.recipe, summary.seed)

        for name, subfolder in UNSTACKED.items():
            if name in self.results:
                save(folder / subfolder, fitted(name), summary, self.reliability(name, person))
        reliability = self.reliability(self.best, person)
        return save(folder, fitted(self.best), summary, reliability, {**files, NESTED: nested_content})


def compare(
    aligned: StageOutputs,
    raw: StageOutputs,
    label: np.ndarray,
    fold: np.ndarray,
    settings: CombinerRecipe,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> Selection:
    """Nested results of every method, and of choosing among them inside the folds.

    Args:
        aligned, raw: out-of-fold outputs of the same N rows; they differ in their embeddings alone.
        label, fold: int (N,).
        advance: called after each fit.
    """
    inputs = {"aligned": aligned, "raw": raw, "none": aligned.without_embedding()}
    fitted: dict[tuple[str, str], dict[bool, NestedResult]] = {}
    results = {}
    for name, method in methods_for(aligned).items():
        if (method.estimator, method.embedding) not in fitted:
            candidate = Candidate(new_estimator(method.estimator, settings, seed), inputs[method.embedding])
            fitted[method.estimator, method.embedding] = nested(candidate, label, fold, advance)
        results[name] = fitted[method.estimator, method.embedding][method.weighted]
    return Selection(aligned, label, fold, results, select(_eligible(results), fold))


def _eligible(results: dict[str, NestedResult]) -> dict[str, NestedResult]:
    """Results of the methods that may be chosen."""
    return {name: result for name, result in results.items() if METHODS[name].embedding != "raw"}


def fits_to_compare(stage_outputs: StageOutputs, folds: int) -> int:
    """How often `compare` calls `advance`."""
    return folds * len({(method.estimator, method.embedding) for method in methods_for(stage_outputs).values()})


def fit_final(
    name: str, result: NestedResult, aligned: StageOutputs, label: np.ndarray, settings: CombinerRecipe, seed: int
) -> FittedCombiner:
    """Fit a method on all rows; its decision weights come from its out-of-fold probabilities."""
    method = METHODS[name]
    weights = fit_weights(result.probability, label) if method.weighted else NO_WEIGHTS
    return FittedCombiner(name, new_estimator(method.estimator, settings, seed)(method.inputs(aligned), label), weights)
