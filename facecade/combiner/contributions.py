"""What moved a fitted combiner towards each class, and by how much: parts that add up to its decision.

Trees are taken apart by TreeSHAP (combiner/meta.py). The soft vote that they start from, and logistic regressions, are sums
already: of weights times what each feature is above its average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.combiner.decision import GROUPS, runner_up
from facecade.combiner.estimators import Logistic, LogisticStack, SoftVote, age_input_stages, age_inputs
from facecade.combiner.features import features
from facecade.combiner.meta import Boosted, base_margin
from facecade.combiner.methods import FittedCombiner
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import N_CLASSES

CONSTANT, AGES, WEIGHTS = "constant", "ages", "decision weights"

Parts = dict[str, np.ndarray]


def contributions(combiner: FittedCombiner, stage_outputs: StageOutputs) -> Parts:
    """What each part of a combiner adds to each class of N rows, in nats.

    Parts are named by who speaks and where it is heard, as `soft vote: joint`, `trees: joint`, `trees: ages` (the features made of
    several stages' ages), `logistic: mask`; `constant` is what is said of any face, with what makes a vote's probabilities add
    up to one. `decision weights` come last. A rule that is no sum (hard cascade, as trained) is one part by its name.

    Returns:
        float64 (N, 18) by name. What adds the same to every class changes nothing, and is left out: each part is 0 on average
        over a row's classes. All together they are, up to a constant for each row, what `decision.decide` takes the
        largest of.
    """
    rule, inputs = combiner.estimator, combiner.inputs(stage_outputs)
    if isinstance(rule, Boosted):
        parts = _named("soft vote", *_soft_vote(rule.start, inputs, base_margin(rule.start, inputs)))
        parts |= _named("trees", *_trees(rule, inputs))
    elif isinstance(rule, SoftVote):
        parts = _named("soft vote", *_soft_vote(rule, inputs, np.log(rule.probability(inputs) + 1e-12)))
    elif isinstance(rule, LogisticStack):
        parts = _named("logistic", *_logistic(rule, inputs))
    else:
        parts = {combiner.name: np.log(rule.probability(inputs) + 1e-12)}
    parts[WEIGHTS] = np.tile(combiner.weights[GROUPS], (len(inputs), 1))
    return {name: values - values.mean(1, keepdims=True) for name, values in parts.items()}


@dataclass(frozen=True)
class MarginContributions:
    """Why one answer and not another.

    answer, runner_up: classes. margin: how far the answer is ahead, in nats. parts: how much of the margin each part gives (negative:
    it spoke for the other), the largest first.
    """

    prediction: int
    runner_up: int
    margin: float
    parts: dict[str, float]


def margin_contributions(combiner: FittedCombiner, stage_outputs: StageOutputs, row: int = 0) -> MarginContributions:
    """What made the combiner answer for one row as it did, and not with the class that comes next."""
    stage_outputs = stage_outputs.take(np.array([row]))
    probability, predictions = combiner(stage_outputs)
    prediction, other = int(predictions[0]), int(runner_up(probability, combiner.weights)[0])
    by_part = {
        name: float(values[0, prediction] - values[0, other])
        for name, values in contributions(combiner, stage_outputs).items()
    }
    largest_first = dict(sorted(by_part.items(), key=lambda part: -abs(part[1])))
    return MarginContributions(prediction, other, sum(by_part.values()), largest_first)


def _named(where: str, parts: Mapping[str, np.ndarray], whole: np.ndarray) -> Parts:
    """The parts of a whole (N, 18), by name; what they leave over is the constant."""
    named = {f"{where}: {who}": values for who, values in parts.items()}
    return {**named, f"{where}: {CONSTANT}": whole - sum(parts.values(), np.zeros_like(whole))}


def _trees(rule: Boosted, stage_outputs: StageOutputs) -> tuple[Parts, np.ndarray]:
    """Each stage's part of what the trees say, and all of it."""
    values, average, names = rule.shap(stage_outputs)
    return _grouped(values, _owners(names, stage_outputs)), average + values.sum(2)


def _logistic(rule: LogisticStack, stage_outputs: StageOutputs) -> tuple[Parts, np.ndarray]:
    values, names = features(stage_outputs, rule.cuts)
    return _shares(rule.model, values, _owners(names, stage_outputs)), np.log(rule.probability(stage_outputs) + 1e-12)


def _soft_vote(vote: SoftVote, stage_outputs: StageOutputs, whole: np.ndarray) -> tuple[Parts, np.ndarray]:
    """Each stage's part of the vote: on mask, on gender, and on the bands of a man and of a woman."""
    mask = _shares(vote.mask, stage_outputs.for_target("mask"), stage_outputs.stages_for_target("mask"))
    gender = _shares(vote.gender, stage_outputs.for_target("gender"), stage_outputs.stages_for_target("gender"))
    bands = []
    for ages, stage_names in zip(age_inputs(stage_outputs), age_input_stages(stage_outputs), strict=True):
        shares, probability = _shares(vote.band, ages, stage_names), vote.band.probability(ages)
        # Two genders' bands are compared where each is what it is: against its own average.
        bands.append({who: each - (each * probability).sum(1, keepdims=True) for who, each in shares.items()})
    parts = {}
    for stage in stage_outputs.logits:
        total = np.zeros((len(stage_outputs), 3, 2, 3))
        if stage in mask:
            total += mask[stage][:, :, None, None]
        if stage in gender:
            total += gender[stage][:, None, :, None]
        for of_gender, shares in enumerate(bands):
            if stage in shares:
                total[:, :, of_gender] += shares[stage][:, None]
        parts[stage] = total.reshape(-1, N_CLASSES)
    return parts, whole


def _shares(model: Logistic, values: np.ndarray, stage_names: Sequence[str]) -> Parts:
    """What each speaker's columns of (N, F) add to the logits (N, classes), by speaker; columns beyond are nobody's."""
    parts = {}
    for who in dict.fromkeys(stage_names):
        columns = [place for place, stage_name in enumerate(stage_names) if stage_name == who]
        above = (values[:, columns] - model.mean[columns]) / model.scale[columns]
        parts[who] = above @ model.weight[:, columns].T
    return parts


def _grouped(values: np.ndarray, owners: Sequence[str]) -> Parts:
    """Values (N, 18, F) summed by the owner of each feature."""
    return {who: values[..., np.array(owners) == who].sum(2) for who in dict.fromkeys(owners)}


def _owners(names: Sequence[str], stage_outputs: StageOutputs) -> list[str]:
    """The stage that each feature is about, or `ages`."""
    stages = [name.partition(".")[0] for name in names]
    return [stage if stage in stage_outputs.logits else AGES for stage in stages]
