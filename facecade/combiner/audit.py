"""Which labels are probably wrong, of people (gender, age) and of images (mask), in one ranking.

Every probability is of models, calibration and error rates that knew neither the label nor the person. Gender and age are a person's,
and what is said of the images is averaged before it is judged: seven images of one face err together, and are worth about one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from facecade.combiner.stage_outputs import AGE_STAGES, StageOutputs
from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of
from facecade.report.age_errors import AgeDoubt, Said
from facecade.report.label_errors import LabelErrorModel

LEAST = 0.01
"""Probability of an error from which a label is listed."""

BEFORE = np.array([19.0, 0.6, 0.4])
"""What is held of a person's two images without a worn mask before they are seen: so many people with both labels right, with one
wrong, and with the two swapped."""

INCORRECT, NORMAL = MASKS.index("incorrect"), MASKS.index("normal")


@dataclass(frozen=True)
class Finding:
    """A label that may be wrong.

    kind: `gender`, `age`, `mask` or `swap`. id, field, value: the correction (faces/corrections.py) that would mend it. rows: of the sample
    table, those it is about. recorded, suggested: in words. score: probability that the label is wrong, 0..1. reason: a sentence.
    """

    kind: str
    id: str
    person: str
    rows: tuple[int, ...]
    field: str
    value: str
    recorded: str
    suggested: str
    score: float
    reason: str


def audit(table: pd.DataFrame, stage_outputs: StageOutputs, cap: float | None) -> list[Finding]:
    """Everything whose label is wrong with a probability of at least LEAST, the most probable first.

    Args:
        table: sample table with folds, N rows, all labelled. voices: of the same rows, out of fold.
        cap: the age from which the data say only "at least", or None.
    """
    people = _People(table)
    genders = _Judged.of(
        people.mean(stage_outputs.for_target("gender")),
        stage_outputs.stages_for_target("gender"),
        people.gender,
        people.fold,
        2,
    )
    female = genders.true[:, GENDERS.index("female")]
    found = [*_genders(people, genders), *_ages(people, stage_outputs, female, cap), *_masks(people, stage_outputs)]
    return sorted((one for one in found if one.score >= LEAST), key=lambda one: (-one.score, one.id, one.field))


class _People:
    """The people of a sample table, in the order of their names, with what is recorded of each."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.names, self.index = np.unique(table["person"].to_numpy(str), return_inverse=True)
        by_person = table.groupby(self.index)
        self.fold = by_person["fold"].first().to_numpy()
        self.gender = by_person["gender"].agg(lambda said: said.mode()[0]).map(GENDERS.index).to_numpy()
        self.age = by_person["age"].median().to_numpy(float)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """The rows of each person."""
        order = np.argsort(self.index, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.index))[:-1])

    def finding(
        self, kind: str, place: int, value: str, recorded: str, suggested: str, score: float, reason: str
    ) -> Finding:
        """One about a person as a whole."""
        name, rows = str(self.names[place]), tuple(map(int, self.rows[place]))
        return Finding(kind, name, name, rows, kind, value, recorded, suggested, float(score), reason)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Values (N, F) of images → their means (P, F)."""
        sums = np.zeros((len(self), values.shape[1]))
        np.add.at(sums, self.index, values)
        return sums / np.bincount(self.index)[:, None]


def _crossed(
    fold: np.ndarray, classes: int, fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]
) -> np.ndarray:
    """What is learned of the other folds' rows, asked about each fold's, (N, classes)."""
    result = np.full((len(fold), classes), np.nan)
    for held_out in np.unique(fold):
        test = np.flatnonzero(fold == held_out)
        result[test] = fit(np.flatnonzero(fold != held_out))(test)
    return result


@dataclass(frozen=True)
class _Judged:
    """Of M labels, with none of a fold judged by what was learned of it.

    said: probability (M, C) of the true class by all voices. true: the same with what is recorded. each: (M, C) by one stage alone.
    """

    given: np.ndarray
    said: np.ndarray
    true: np.ndarray
    each: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, values: np.ndarray, stage_names: Sequence[str], given: np.ndarray, fold: np.ndarray, classes: int
    ) -> _Judged:
        """Of values (M, F), a column for each of `speakers`."""

        def both(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            doubt = LabelErrorModel.fit(values[rows], given[rows], classes)
            return lambda test: np.column_stack(
                [doubt.probability(values[test]), doubt.posterior(values[test], given[test])]
            )

        crossed = _crossed(fold, 2 * classes, both)
        each, stages = {}, list(dict.fromkeys(stage_names))
        for stage in stages if len(stages) > 1 else []:
            own = values[:, [stage_name == stage for stage_name in stage_names]]

            def alone(rows: np.ndarray, own: np.ndarray = own) -> Callable[[np.ndarray], np.ndarray]:
                doubt = LabelErrorModel.fit(own[rows], given[rows], classes)
                return lambda test: doubt.probability(own[test])

            each[stage] = _crossed(fold, classes, alone)
        said, true = np.split(crossed, 2, axis=1)
        return cls(given, said, true, each or {stage: said for stage in stages})

    @property
    def wrong(self) -> np.ndarray:
        """Probability (M,) that what is recorded is wrong."""
        return 1 - self.true[np.arange(len(self.given)), self.given]

    @property
    def other(self) -> np.ndarray:
        """The most probable class (M,) but for the recorded."""
        rest = self.true.copy()
        rest[np.arange(len(rest)), self.given] = -1
        return rest.argmax(1)

    def words(self, place: int, wanted: int, names: Sequence[str]) -> str:
        """What the stages say of a label, as `gender and joint both say female at .99 and .97`."""
        agree = {stage: p[place, wanted] for stage, p in self.each.items() if p[place].argmax() == wanted}
        differ = {stage: p[place] for stage, p in self.each.items() if stage not in agree}
        parts = []
        if agree:
            both = {1: "says", 2: "both say"}.get(len(agree), "all say")
            sure = _listed(list(dict.fromkeys(_p(p) for p in agree.values())))
            parts.append(f"{_listed(list(agree))} {both} {names[wanted]} at {sure}")
        parts += [f"{stage} says {names[int(p.argmax())]} at {_p(p.max())}" for stage, p in differ.items()]
        if len(self.each) > 1 and differ:
            parts.append(f"together {names[wanted]} at {_p(self.said[place, wanted])}")
        return ", ".join(parts)


def _genders(people: _People, judged: _Judged) -> list[Finding]:
    found = []
    for place, (score, other) in enumerate(zip(judged.wrong, judged.other, strict=True)):
        recorded, suggested = GENDERS[people.gender[place]], GENDERS[other]
        reason = f"{judged.words(place, other, GENDERS)}; recorded {recorded}"
        found.append(people.finding("gender", place, suggested, recorded, suggested, score, reason))
    return found


def _ages(people: _People, stage_outputs: StageOutputs, female: np.ndarray, cap: float | None) -> list[Finding]:
    years = stage_outputs.age_by_gender()
    if np.isnan(years).any():
        return _bands(people, stage_outputs)
    stages = _years_of_stages(stage_outputs)
    # each image by both regressors, as probable as each gender is: the other's says nothing of this person
    mixed = (years * np.column_stack([1 - female, female])[people.index]).sum(1)
    inputs = np.column_stack([mixed, *stages.values()])
    centre = people.mean(inputs)
    images = people.mean(mixed[:, None] ** 2)[:, 0] - centre[:, 0] ** 2
    said = Said(centre[:, 0], female, np.sqrt(images.clip(0) + centre[:, 1:].var(1)))

    def fit(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        doubt = AgeDoubt.fit(said.take(rows), people.age[rows], cap)

        def judge(test: np.ndarray) -> np.ndarray:
            of = said.take(test)
            return np.column_stack([doubt.wrong(of, people.age[test]), doubt.expected(of), doubt.reach(of)])

        return judge

    found = []
    for place, (wrong, expected, reach) in enumerate(_crossed(people.fold, 3, fit)):
        years_said = {stage: centre[place, 1 + column] for column, stage in enumerate(stages)}
        suggested, recorded = float(np.clip(round(expected), 1, cap or 120)), _age(people.age[place], cap)
        reason = (
            f"{_years_words(years_said)}; recorded {recorded}, and 95 % of right ages are within {reach:.0f} years of"
            f" {expected:.0f}"
        )
        found.append(
            people.finding("age", place, f"{suggested:.0f}", recorded, f"about {_age(suggested, cap)}", wrong, reason)
        )
    return found


def _bands(people: _People, stage_outputs: StageOutputs) -> list[Finding]:
    """Ages where no stage knows years: by the band alone."""
    values = np.column_stack([people.mean(stage_outputs.for_target(stage)) for stage in AGE_STAGES])
    stage_names = [stage_name for stage in AGE_STAGES for stage_name in stage_outputs.stages_for_target(stage)]
    band = band_of(people.age)
    judged = _Judged.of(values, stage_names, band, people.fold, len(BANDS))
    middle = [np.median(people.age[band == place]) if (band == place).any() else 45.0 for place in range(len(BANDS))]
    found = []
    for place, (score, other) in enumerate(zip(judged.wrong, judged.other, strict=True)):
        recorded = f"{people.age[place]:.0f}"
        reason = f"{judged.words(place, other, BANDS)}; recorded {recorded}"
        found.append(people.finding("age", place, f"{middle[other]:.0f}", recorded, BANDS[other], score, reason))
    return found


def _masks(people: _People, stage_outputs: StageOutputs) -> list[Finding]:
    """Images whose mask is wrong, and people whose `normal` and `incorrect` images are each other's."""
    table = people.table
    given = table["mask"].map(MASKS.index).to_numpy()
    judged = _Judged.of(
        stage_outputs.for_target("mask"),
        stage_outputs.stages_for_target("mask"),
        given,
        table["fold"].to_numpy(),
        len(MASKS),
    )
    score, found = judged.wrong, []
    for place, pair, swapped in _swaps(people, judged):
        incorrect, normal = pair
        if swapped < max(LEAST, *np.minimum(score[list(pair)], 1 - swapped)):
            continue  # one of the two alone explains it better
        score[list(pair)] = 0
        paths = [str(table["path"].iloc[row]).rpartition("/")[2] for row in pair]
        found.append(
            Finding(
                "swap",
                str(people.names[place]),
                str(people.names[place]),
                pair,
                "mask",
                "swap",
                "incorrect, normal",
                "swapped",
                swapped,
                f"of {paths[0]}, recorded incorrect, {judged.words(incorrect, NORMAL, MASKS)};"
                f" of {paths[1]}, recorded normal, {judged.words(normal, INCORRECT, MASKS)}",
            )
        )
    found += [
        Finding(
            "mask",
            str(table["path"].iloc[row]),
            str(table["person"].iloc[row]),
            (int(row),),
            "mask",
            MASKS[judged.other[row]],
            MASKS[given[row]],
            MASKS[judged.other[row]],
            float(score[row]),
            f"{judged.words(int(row), int(judged.other[row]), MASKS)}; recorded {MASKS[given[row]]}",
        )
        for row in np.flatnonzero(score >= LEAST)
    ]
    return found


def _swaps(people: _People, judged: _Judged) -> list[tuple[int, tuple[int, int], float]]:
    """Of each person with one image of either kind: the person, rows of `incorrect` and of `normal`, and how probably
    they are swapped. How many people are is learned of the other folds, by expectation and maximisation."""
    pairs = []
    for place, rows in enumerate(people.rows):
        incorrect, normal = (rows[judged.given[rows] == kind] for kind in (INCORRECT, NORMAL))
        if len(incorrect) == len(normal) == 1:
            pairs.append((place, (int(incorrect[0]), int(normal[0]))))
    if not pairs:
        return []
    who, (first, second) = np.array([place for place, _ in pairs]), np.array([pair for _, pair in pairs]).T
    p = np.clip(judged.said, 1e-12, 1)
    # both right, one alone wrong, or each the other's
    right = p[first, INCORRECT] * p[second, NORMAL]
    alone = (1 - p[first, INCORRECT]) * p[second, NORMAL] + p[first, INCORRECT] * (1 - p[second, NORMAL])
    swapped, fold = p[first, NORMAL] * p[second, INCORRECT], people.fold[who]
    odds = np.column_stack([right, alone, swapped])
    result = np.zeros(len(who))
    for held_out in np.unique(fold):
        others, shares = fold != held_out, BEFORE / BEFORE.sum()
        for _ in range(50):
            each = odds[others] * shares
            shares = (each / each.sum(1, keepdims=True)).sum(0) + BEFORE
            shares /= shares.sum()
        each = odds[~others] * shares
        result[~others] = (each / each.sum(1, keepdims=True))[:, 2]
    return [(person, pair, float(probable)) for (person, pair), probable in zip(pairs, result, strict=True)]


def _years_of_stages(stage_outputs: StageOutputs) -> dict[str, np.ndarray]:
    """Years (N,) by every stage that knows them."""
    columns = {
        stage: next((place for place, name in enumerate(names) if name in ("years", "age.years")), None)
        for stage, names in stage_outputs.columns.items()
    }
    return {
        stage: stage_outputs.logits[stage][:, place].astype(float)
        for stage, place in columns.items()
        if place is not None
    }


def _years_words(said: dict[str, float]) -> str:
    both = {1: "says", 2: "both say"}.get(len(said), "say")
    return f"{_listed(list(said))} {both} {_listed([f'{years:.0f}' for years in said.values()])}"


def _age(years: float, cap: float | None) -> str:
    return f"{years:.0f}" + (" or older" if cap is not None and years >= cap else "")


def _listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _p(probability: float) -> str:
    """`.97`; never 1."""
    return f"{min(float(probability), 0.999):.3f}".rstrip("0")[1:] if probability > 0.99 else f"{probability:.2f}"[1:]
