"""Contributions to a fitted combiner's prediction: parts that add up to its class scores.

TreeSHAP splits the trees' outputs by feature (combiner/meta.py). The soft vote that they start from, and logistic
regressions, are sums already: each weight times the feature's distance from its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.combiner.decision import GROUP_OF_CLASS, runner_up
from facecade.combiner.estimators import Logistic, LogisticStack, SoftVote, age_input_stages, age_inputs
from facecade.combiner.features import features
from facecade.combiner.meta import Boosted, base_margin
from facecade.combiner.methods import FittedCombiner
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import N_CLASSES

CONSTANT, AGES, WEIGHTS = "constant", "ages", "decision weights"

Parts = dict[str, np.ndarray]


def contributions(combiner: FittedCombiner, stage_outputs: StageOutputs) -> Parts:
    """What each part of a combiner adds to the score of each class of N rows, in nats.

    A part's name is the component and the stage, as `soft vote: joint`, `trees: joint`, `trees: ages` (features made of
    several stages' ages), `logistic: mask`. `constant` is the baseline, the same for every face, and what normalizes a
    vote's probabilities. `decision weights` come last. A method that is not a sum (hard cascade, as trained) is one
    part with the method's name.

    Returns:
        float64 (N, 18) by name. Each part is centered: its mean over a row's classes is 0, because what adds the same
        to every class changes nothing. The parts add up to `decision.scores`, up to a constant for each row.
    """
    estimator, inputs = combiner.estimator, combiner.inputs(stage_outputs)
    if isinstance(estimator, Boosted):
        parts = _named("soft vote", *_soft_vote(estimator.start, inputs, base_margin(estimator.start, inputs)))
        parts |= _named("trees", *_trees(estimator, inputs))
    elif isinstance(estimator, SoftVote):
        parts = _named("soft vote", *_soft_vote(estimator, inputs, np.log(estimator.probability(inputs) + 1e-12)))
    elif isinstance(estimator, LogisticStack):
        parts = _named("logistic", *_logistic(estimator, inputs))
    else:
        parts = {combiner.name: np.log(estimator.probability(inputs) + 1e-12)}
    parts[WEIGHTS] = np.tile(combiner.weights[GROUP_OF_CLASS], (len(inputs), 1))
    return {name: values - values.mean(1, keepdims=True) for name, values in parts.items()}


@dataclass(frozen=True)
class MarginContributions:
    """The contributions to the margin of the predicted class over the runner-up.

    prediction, runner_up: classes. margin: how far the prediction is ahead, in nats. parts: each part's contribution to
    the margin (negative: it favors the runner-up), the largest first.
    """

    prediction: int
    runner_up: int
    margin: float
    parts: dict[str, float]


def margin_contributions(combiner: FittedCombiner, stage_outputs: StageOutputs, row: int = 0) -> MarginContributions:
    """The contributions to one row's margin: of the predicted class over the next best."""
    stage_outputs = stage_outputs.take(np.array([row]))
    probability, predictions = combiner(stage_outputs)
    prediction, second = int(predictions[0]), int(runner_up(probability, combiner.weights)[0])
    by_part = {
        name: float(values[0, prediction] - values[0, second])
        for name, values in contributions(combiner, stage_outputs).items()
    }
    largest_first = dict(sorted(by_part.items(), key=lambda part: -abs(part[1])))
    return MarginContributions(prediction, second, sum(by_part.values()), largest_first)


def _named(component: str, parts: Mapping[str, np.ndarray], whole: np.ndarray) -> Parts:
    """The parts of a whole (N, 18), with the component in their names; the rest of the whole is the constant."""
    named = {f"{component}: {owner}": values for owner, values in parts.items()}
    return {**named, f"{component}: {CONSTANT}": whole - sum(parts.values(), np.zeros_like(whole))}


def _trees(boosted: Boosted, stage_outputs: StageOutputs) -> tuple[Parts, np.ndarray]:
    """Each stage's part of the trees' outputs, and the outputs (N, 18)."""
    values, average, names = boosted.shap(stage_outputs)
    return _sum_by_owner(values, _owners(names, stage_outputs)), average + values.sum(2)


def _logistic(stack: LogisticStack, stage_outputs: StageOutputs) -> tuple[Parts, np.ndarray]:
    values, names = features(stage_outputs, stack.cuts)
    log_probability = np.log(stack.probability(stage_outputs) + 1e-12)
    return _linear_parts(stack.model, values, _owners(names, stage_outputs)), log_probability


def _soft_vote(vote: SoftVote, stage_outputs: StageOutputs, whole: np.ndarray) -> tuple[Parts, np.ndarray]:
    """Each stage's part of the vote: on mask, on gender, and on the bands of either gender."""
    mask = _linear_parts(vote.mask, stage_outputs.for_target("mask"), stage_outputs.stages_for_target("mask"))
    gender = _linear_parts(vote.gender, stage_outputs.for_target("gender"), stage_outputs.stages_for_target("gender"))
    bands = []
    for ages, stage_names in zip(age_inputs(stage_outputs), age_input_stages(stage_outputs), strict=True):
        by_stage, probability = _linear_parts(vote.band, ages, stage_names), vote.band.probability(ages)
        # Each gender's bands are relative to their own mean, so that the two genders can be compared.
        bands.append({stage: each - (each * probability).sum(1, keepdims=True) for stage, each in by_stage.items()})
    parts = {}
    for stage in stage_outputs.logits:
        total = np.zeros((len(stage_outputs), 3, 2, 3))
        if stage in mask:
            total += mask[stage][:, :, None, None]
        if stage in gender:
            total += gender[stage][:, None, :, None]
        for index, by_stage in enumerate(bands):
            if stage in by_stage:
                total[:, :, index] += by_stage[stage][:, None]
        parts[stage] = total.reshape(-1, N_CLASSES)
    return parts, whole


def _linear_parts(model: Logistic, values: np.ndarray, stage_names: Sequence[str]) -> Parts:
    """What each stage's columns of (N, F) add to the logits (N, classes), by stage; columns without a name belong to no
    stage."""
    parts = {}
    for stage in dict.fromkeys(stage_names):
        columns = [column for column, stage_name in enumerate(stage_names) if stage_name == stage]
        standardized = (values[:, columns] - model.mean[columns]) / model.scale[columns]
        parts[stage] = standardized @ model.weight[:, columns].T
    return parts


def _sum_by_owner(values: np.ndarray, owners: Sequence[str]) -> Parts:
    """Values (N, 18, F) summed by the owner of each feature."""
    return {owner: values[..., np.array(owners) == owner].sum(2) for owner in dict.fromkeys(owners)}


def _owners(names: Sequence[str], stage_outputs: StageOutputs) -> list[str]:
    """The stage of each feature, or `ages`."""
    stages = [name.partition(".")[0] for name in names]
    return [stage if stage in stage_outputs.logits else AGES for stage in stages]
