"""The methods that combine stage outputs into 18 classes; a fitted one, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.arrays import read_arrays, write_arrays
from facecade.base.artifact import again, read_checked_record, remove_leftovers, write_record
from facecade.base.errors import FacecadeError
from facecade.base.seeding import derive
from facecade.combiner.decision import decide, margin, scores
from facecade.combiner.estimators import AsTrained, HardCascade, LogisticStack, SoftVote
from facecade.combiner.meta import Boosted
from facecade.combiner.nested import Estimator
from facecade.combiner.stage_outputs import StageOutputs
from facecade.combiner.trees import Trees
from facecade.faces.labels import N_CLASSES
from facecade.recipe import CombinerRecipe
from facecade.records import CombinerRecord, CombinerSummary, Reliability, combiner_command, read_combiner_record

ESTIMATORS: dict[str, Any] = {
    "plain": AsTrained,
    "hard": HardCascade,
    "soft": SoftVote,
    "logistic": LogisticStack,
    "boosted": Boosted,
}


@dataclass(frozen=True)
class Method:
    """A combining method: its estimator, the embeddings that it sees (`none`, `raw`, `aligned`), and whether
    decision weights follow."""

    estimator: str
    embedding: str
    weighted: bool

    def inputs(self, stage_outputs: StageOutputs) -> StageOutputs:
        """The estimator's inputs: all (aligned) stage outputs, or the logits alone."""
        return stage_outputs if self.embedding == "aligned" else stage_outputs.without_embedding()


METHODS = {
    "as trained": Method("plain", "none", False),
    "as trained + decision rule": Method("plain", "none", True),
    "hard cascade": Method("hard", "none", False),
    "soft vote": Method("soft", "none", False),
    "soft vote + decision rule": Method("soft", "none", True),
    "logistic regression + decision rule": Method("logistic", "none", True),
    "XGBoost, logits": Method("boosted", "none", False),
    "XGBoost, logits + decision rule": Method("boosted", "none", True),
    "XGBoost, raw embeddings + decision rule": Method("boosted", "raw", True),
    "XGBoost, aligned embeddings": Method("boosted", "aligned", False),
    "XGBoost, aligned embeddings + decision rule": Method("boosted", "aligned", True),
}
"""Every method that is compared, as far as the stages allow it. Methods on raw embeddings are measured, but never
chosen."""

CONTINUOUS = ("soft", "logistic", "boosted")
"""Estimators whose probabilities are continuous in the stage outputs; the others jump at a cut and have no margin."""

RULE, TREES = "rule.npz", "model.json"
"""Files of a combiner: its arrays, and XGBoost's trees."""

UNSTACKED = {"as trained": "as-trained", "hard cascade": "hard-cascade"}
"""Methods that stack nothing, with the folder where each is saved beside the best: the baselines of a comparison."""


def methods_for(stage_outputs: StageOutputs) -> dict[str, Method]:
    """The methods that these stages allow: the hard cascade needs years, `as trained` needs class probabilities."""
    possible = {"plain": AsTrained.supports(stage_outputs), "hard": HardCascade.supports(stage_outputs)}
    return {name: method for name, method in METHODS.items() if possible.get(method.estimator, True)}


@dataclass(frozen=True)
class FittedCombiner:
    """A fitted method: stage outputs of N rows → probabilities (N, 18) and predictions (N,).

    Raises FacecadeError for the outputs of other stages than those that it was fitted on.
    """

    name: str
    estimator: Estimator
    weights: np.ndarray

    def __call__(self, stage_outputs: StageOutputs) -> tuple[np.ndarray, np.ndarray]:
        try:
            probability = self.estimator.probability(self.inputs(stage_outputs))
        except (AssertionError, IndexError, ValueError) as error:  # NumPy's and XGBoost's for other columns
            raise self._other_stages() from error
        if probability.shape != (len(stage_outputs), N_CLASSES) or not np.isfinite(probability).all():
            raise self._other_stages()
        return probability, decide(probability, self.weights)

    def _other_stages(self) -> FacecadeError:
        return FacecadeError(f"the combiner ({self.name}) was fitted on the outputs of other stages", again("fit-meta"))

    def inputs(self, stage_outputs: StageOutputs) -> StageOutputs:
        """The estimator's inputs."""
        return METHODS[self.name].inputs(stage_outputs)

    @property
    def has_margin(self) -> bool:
        """Whether the probabilities tell how close a prediction is to another class."""
        return METHODS[self.name].estimator in CONTINUOUS

    def margin(self, stage_outputs: StageOutputs) -> np.ndarray:
        """How far each prediction is ahead of the next class, in nats, float (N,)."""
        return margin(self(stage_outputs)[0], self.weights)

    def scores(self, stage_outputs: StageOutputs) -> np.ndarray:
        """Log-probability plus decision weight of each class, in nats, (N, 18): the prediction is the largest."""
        return scores(self(stage_outputs)[0], self.weights)


def new_estimator(name: str, settings: CombinerRecipe, seed: int) -> Callable[[StageOutputs, np.ndarray], Estimator]:
    """The function that fits an estimator to out-of-fold outputs of N rows and their classes (N,)."""
    if name == "boosted":
        return partial(Boosted.fit, settings=settings, seed=derive(seed, "xgboost") % 2**31)
    return ESTIMATORS[name].fit  # type: ignore[no-any-return]


def save(
    folder: Path,
    combiner: FittedCombiner,
    summary: CombinerSummary,
    reliability: Reliability,
    files: Mapping[str, str] | None = None,
) -> CombinerRecord:
    """Save a combiner: rule.npz, model.json where there are trees, meta.json last.

    Args:
        reliability: of its predictions. files: hashes of other files in the folder, by name.

    Returns:
        The record in meta.json.
    """
    remove_leftovers(folder)
    (folder / "meta.json").unlink(missing_ok=True)
    contents = {**(files or {}), RULE: write_arrays(folder / RULE, combiner.estimator.arrays())}
    if isinstance(combiner.estimator, Boosted):
        contents[TREES] = write_record(folder / TREES, combiner.estimator.trees)
    record = CombinerRecord(
        **dict(summary),
        method=combiner.name,
        decision_weights=combiner.weights.tolist(),
        reliability=reliability,
        files=contents,
    )
    write_record(folder / "meta.json", record)
    return record


def load(folder: Path) -> tuple[FittedCombiner, CombinerRecord]:
    """A saved combiner and its record; raises FacecadeError where a file is damaged."""
    record = read_combiner_record(folder)
    if record.method not in METHODS:
        raise FacecadeError(f"{folder} has an unknown combining method", again(combiner_command(folder)))
    name = METHODS[record.method].estimator
    arrays = read_arrays(folder / RULE, record.files.get(RULE, ""), ESTIMATORS[name].layout(), combiner_command(folder))
    if name == "boosted":
        fitted = Boosted.load(arrays, read_checked_record(folder / TREES, record.files.get(TREES, ""), Trees))
    else:
        fitted = ESTIMATORS[name].load(arrays)
    return FittedCombiner(record.method, fitted, np.array(record.decision_weights)), record
