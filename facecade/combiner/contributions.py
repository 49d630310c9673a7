"""What moved a fitted combination towards each class, and by how much: parts that add up to its decision.

Trees are taken apart by TreeSHAP (combiner/meta.py). The soft vote that they start from, and logistic regressions, are sums
already: of weights times what each feature is above its average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.combiner.decision import GROUPS, runner_up
from facecade.combiner.features import Voices, features
from facecade.combiner.fit import Combination
from facecade.combiner.meta import Boosted, margin
from facecade.combiner.rules import Logistic, LogisticStack, SoftVote, ages_heard, ages_speakers
from facecade.faces.labels import N_CLASSES

CONSTANT, AGES, WEIGHTS = "constant", "ages", "decision weights"

Parts = dict[str, np.ndarray]


def contributions(combination: Combination, voices: Voices) -> Parts:
    """What each part of a combination adds to each class of N rows, in nats.

    Parts are named by who speaks and where it is heard, as `soft vote: joint`, `trees: joint`, `trees: ages` (the features made of
    several stages' ages), `logistic: mask`; `constant` is what is said of any face, with what makes a vote's probabilities add
    up to one. `decision weights` come last. A rule that is no sum (hard cascade, as trained) is one part by its name.

    Returns:
        float64 (N, 18) by name. What adds the same to every class changes nothing, and is left out: each part is 0 on average
        over a row's classes. All together they are, up to a constant for each row, what `decision.decide` takes the
        largest of.
    """
    rule, heard = combination.rule, combination.hears(voices)
    if isinstance(rule, Boosted):
        parts = _named("soft vote", *_soft_vote(rule.start, heard, margin(rule.start, heard)))
        parts |= _named("trees", *_trees(rule, heard))
    elif isinstance(rule, SoftVote):
        parts = _named("soft vote", *_soft_vote(rule, heard, np.log(rule.probability(heard) + 1e-12)))
    elif isinstance(rule, LogisticStack):
        parts = _named("logistic", *_logistic(rule, heard))
    else:
        parts = {combination.name: np.log(rule.probability(heard) + 1e-12)}
    parts[WEIGHTS] = np.tile(combination.weights[GROUPS], (len(heard), 1))
    return {name: values - values.mean(1, keepdims=True) for name, values in parts.items()}


@dataclass(frozen=True)
class Tipped:
    """Why one answer and not another.

    answer, runner_up: classes. lead: how far the answer is ahead, in nats. parts: how much of the lead each part gives (negative:
    it spoke for the other), the largest first.
    """

    answer: int
    runner_up: int
    lead: float
    parts: dict[str, float]


def tipped(combination: Combination, voices: Voices, row: int = 0) -> Tipped:
    """What made the combination answer for one row as it did, and not with the class that comes next."""
    voices = voices.take(np.array([row]))
    probability, answers = combination(voices)
    answer, other = int(answers[0]), int(runner_up(probability, combination.weights)[0])
    by_part = {
        name: float(values[0, answer] - values[0, other]) for name, values in contributions(combination, voices).items()
    }
    largest_first = dict(sorted(by_part.items(), key=lambda part: -abs(part[1])))
    return Tipped(answer, other, sum(by_part.values()), largest_first)


def _named(where: str, parts: Mapping[str, np.ndarray], whole: np.ndarray) -> Parts:
    """The parts of a whole (N, 18), by name; what they leave over is the constant."""
    named = {f"{where}: {who}": values for who, values in parts.items()}
    return {**named, f"{where}: {CONSTANT}": whole - sum(parts.values(), np.zeros_like(whole))}


def _trees(rule: Boosted, voices: Voices) -> tuple[Parts, np.ndarray]:
    """Each stage's part of what the trees say, and all of it."""
    values, average, names = rule.shap(voices)
    return _grouped(values, _owners(names, voices)), average + values.sum(2)


def _logistic(rule: LogisticStack, voices: Voices) -> tuple[Parts, np.ndarray]:
    values, names = features(voices, rule.cuts)
    return _shares(rule.model, values, _owners(names, voices)), np.log(rule.probability(voices) + 1e-12)


def _soft_vote(vote: SoftVote, voices: Voices, whole: np.ndarray) -> tuple[Parts, np.ndarray]:
    """Each stage's part of the vote: on mask, on gender, and on the bands of a man and of a woman."""
    mask = _shares(vote.mask, voices.about("mask"), voices.speakers("mask"))
    gender = _shares(vote.gender, voices.about("gender"), voices.speakers("gender"))
    bands = []
    for ages, speakers in zip(ages_heard(voices), ages_speakers(voices), strict=True):
        shares, probability = _shares(vote.band, ages, speakers), vote.band.probability(ages)
        # Two genders' bands are compared where each is what it is: against its own average.
        bands.append({who: each - (each * probability).sum(1, keepdims=True) for who, each in shares.items()})
    parts = {}
    for stage in voices.logits:
        total = np.zeros((len(voices), 3, 2, 3))
        if stage in mask:
            total += mask[stage][:, :, None, None]
        if stage in gender:
            total += gender[stage][:, None, :, None]
        for of_gender, shares in enumerate(bands):
            if stage in shares:
                total[:, :, of_gender] += shares[stage][:, None]
        parts[stage] = total.reshape(-1, N_CLASSES)
    return parts, whole


def _shares(model: Logistic, values: np.ndarray, speakers: Sequence[str]) -> Parts:
    """What each speaker's columns of (N, F) add to the logits (N, classes), by speaker; columns beyond are nobody's."""
    parts = {}
    for who in dict.fromkeys(speakers):
        columns = [place for place, speaker in enumerate(speakers) if speaker == who]
        above = (values[:, columns] - model.mean[columns]) / model.scale[columns]
        parts[who] = above @ model.weight[:, columns].T
    return parts


def _grouped(values: np.ndarray, owners: Sequence[str]) -> Parts:
    """Values (N, 18, F) summed by the owner of each feature."""
    return {who: values[..., np.array(owners) == who].sum(2) for who in dict.fromkeys(owners)}


def _owners(names: Sequence[str], voices: Voices) -> list[str]:
    """The stage that each feature is about, or `ages`."""
    stages = [name.partition(".")[0] for name in names]
    return [stage if stage in voices.logits else AGES for stage in stages]
