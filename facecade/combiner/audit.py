"""Find labels that are probably wrong, of people (gender, age) and of images (mask), in one ranking.

Every probability comes from models, calibration and error rates that were fitted without the label and the person.
Gender and age belong to a person, so the outputs for a person's images are averaged first: the errors of seven images
of one face are correlated, and the seven are worth about one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from facecade.combiner.stage_outputs import AGE_STAGES, StageOutputs
from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of
from facecade.faces.table import labelled_rows
from facecade.report.age_errors import AgeErrorModel, AgePredictions
from facecade.report.label_errors import LabelErrorModel

MIN_SCORE = 0.01
"""Smallest probability of an error at which a label is listed."""

SWAP_PRIOR = np.array([19.0, 0.6, 0.4])
"""Prior counts for a person's `incorrect` and `normal` image: people with both labels right, with one wrong, and with
the two swapped."""

INCORRECT, NORMAL = MASKS.index("incorrect"), MASKS.index("normal")


PROBABLE = 0.5
"""Probability of an error from which a label is rather wrong than right."""


@dataclass(frozen=True)
class Finding:
    """A label that may be wrong.

    kind: `gender`, `age`, `mask` or `swap`. id, field, value: the correction (faces/corrections.py) that would fix it.
    rows: its rows in the sample table. recorded, suggested: in words. score: probability that the label is wrong, 0..1.
    reason: a sentence.
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


def verdict(findings: Sequence[Finding]) -> str:
    """How many labels are probably wrong, in one sentence."""
    probable = sum(finding.score >= PROBABLE for finding in findings)
    sentence = (
        f"{probable} {'label is' if probable == 1 else 'labels are'} probably wrong (probability {PROBABLE:g} or more)"
    )
    if probable or not findings:
        return f"{sentence}."
    return f"{sentence}; the least unlikely {len(findings)} are in audit.csv."


def audit(table: pd.DataFrame, stage_outputs: StageOutputs, cap: float | None) -> list[Finding]:
    """All labels that are wrong with a probability of at least MIN_SCORE, the most probable first.

    Rows without all three labels are not judged.

    Args:
        table: sample table with folds, N rows. stage_outputs: out-of-fold outputs of the same rows.
        cap: the recorded age that means "at least", or None.
    """
    rows = labelled_rows(table)
    people, stage_outputs = _People(table.iloc[rows].reset_index(drop=True)), stage_outputs.take(rows)
    genders = _LabelPosteriors.fit(
        people.mean(stage_outputs.for_target("gender")),
        stage_outputs.stages_for_target("gender"),
        people.gender,
        people.fold,
        2,
    )
    female = genders.posterior[:, GENDERS.index("female")]
    findings = [
        *_gender_findings(people, genders),
        *_age_findings(people, stage_outputs, female, cap),
        *_mask_findings(people, stage_outputs),
    ]
    listed = (
        replace(finding, rows=tuple(map(int, rows[list(finding.rows)])))
        for finding in findings
        if finding.score >= MIN_SCORE
    )
    return sorted(listed, key=lambda finding: (-finding.score, finding.id, finding.field))


class _People:
    """The people of a sample table, sorted by name, with the recorded fold, gender and age of each."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.names, self.index = np.unique(table["person"].to_numpy(str), return_inverse=True)
        by_person = table.groupby(self.index)
        self.fold = by_person["fold"].first().to_numpy()
        self.gender = by_person["gender"].agg(lambda genders: genders.mode()[0]).map(GENDERS.index).to_numpy()
        self.age = by_person["age"].median().to_numpy(float)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """The rows of each person."""
        order = np.argsort(self.index, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.index))[:-1])

    def finding(
        self, kind: str, index: int, value: str, recorded: str, suggested: str, score: float, reason: str
    ) -> Finding:
        """A finding about a person's label."""
        name, rows = str(self.names[index]), tuple(map(int, self.rows[index]))
        return Finding(kind, name, name, rows, kind, value, recorded, suggested, float(score), reason)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Values (N, F) of images → means (P, F) of people."""
        sums = np.zeros((len(self), values.shape[1]))
        np.add.at(sums, self.index, values)
        return sums / np.bincount(self.index)[:, None]


def _cross_predict(
    fold: np.ndarray, columns: int, fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]
) -> np.ndarray:
    """Predict each fold's rows with a fit on the other folds' rows, (N, columns)."""
    result = np.full((len(fold), columns), np.nan)
    for held_out in np.unique(fold):
        test = np.flatnonzero(fold == held_out)
        result[test] = fit(np.flatnonzero(fold != held_out))(test)
    return result


@dataclass(frozen=True)
class _LabelPosteriors:
    """Probabilities of the true class of M labels; each fold's rows are predicted by a fit on the other folds.

    given: labels (M,) as recorded. probability: of the true class by all stages (M, C). posterior: the same, given the
    recorded label too. by_stage: probability (M, C) by one stage alone.
    """

    given: np.ndarray
    probability: np.ndarray
    posterior: np.ndarray
    by_stage: dict[str, np.ndarray]

    @classmethod
    def fit(
        cls, values: np.ndarray, stage_names: Sequence[str], given: np.ndarray, fold: np.ndarray, classes: int
    ) -> _LabelPosteriors:
        """Fit to values (M, F); stage_names: the stage of each column."""

        def fit_all(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            model = LabelErrorModel.fit(values[rows], given[rows], classes)
            return lambda test: np.column_stack(
                [model.probability(values[test]), model.posterior(values[test], given[test])]
            )

        predicted = _cross_predict(fold, 2 * classes, fit_all)
        by_stage, stages = {}, list(dict.fromkeys(stage_names))
        for stage in stages if len(stages) > 1 else []:
            own = values[:, [stage_name == stage for stage_name in stage_names]]

            def fit_stage(rows: np.ndarray, own: np.ndarray = own) -> Callable[[np.ndarray], np.ndarray]:
                model = LabelErrorModel.fit(own[rows], given[rows], classes)
                return lambda test: model.probability(own[test])

            by_stage[stage] = _cross_predict(fold, classes, fit_stage)
        probability, posterior = np.split(predicted, 2, axis=1)
        return cls(given, probability, posterior, by_stage or {stage: probability for stage in stages})

    @property
    def error_probability(self) -> np.ndarray:
        """Probability (M,) that the recorded label is wrong."""
        return 1 - self.posterior[np.arange(len(self.given)), self.given]

    @property
    def alternative(self) -> np.ndarray:
        """The most probable class (M,) other than the recorded one."""
        others = self.posterior.copy()
        others[np.arange(len(others)), self.given] = -1
        return others.argmax(1)

    def text(self, row: int, suggested: int, names: Sequence[str]) -> str:
        """The stages' predictions of a label, as `gender and joint both predict female at .99 and .97`."""
        agree = {stage: p[row, suggested] for stage, p in self.by_stage.items() if p[row].argmax() == suggested}
        differ = {stage: p[row] for stage, p in self.by_stage.items() if stage not in agree}
        parts = []
        if agree:
            verb = {1: "predicts", 2: "both predict"}.get(len(agree), "all predict")
            probabilities = _join(list(dict.fromkeys(_format_probability(p) for p in agree.values())))
            parts.append(f"{_join(list(agree))} {verb} {names[suggested]} at {probabilities}")
        parts += [
            f"{stage} predicts {names[int(p.argmax())]} at {_format_probability(p.max())}"
            for stage, p in differ.items()
        ]
        if len(self.by_stage) > 1 and differ:
            parts.append(f"together {names[suggested]} at {_format_probability(self.probability[row, suggested])}")
        return ", ".join(parts)


def _gender_findings(people: _People, posteriors: _LabelPosteriors) -> list[Finding]:
    findings = []
    for index, (score, other) in enumerate(zip(posteriors.error_probability, posteriors.alternative, strict=True)):
        recorded, suggested = GENDERS[people.gender[index]], GENDERS[other]
        reason = f"{posteriors.text(index, other, GENDERS)}; recorded {recorded}"
        findings.append(people.finding("gender", index, suggested, recorded, suggested, score, reason))
    return findings


def _age_findings(people: _People, stage_outputs: StageOutputs, female: np.ndarray, cap: float | None) -> list[Finding]:
    years = stage_outputs.age_by_gender()
    if np.isnan(years).any():
        return _band_findings(people, stage_outputs)
    stages = _years_by_stage(stage_outputs)
    # weight both regressors by the gender's probability: the other gender's regressor does not apply to this person
    mixed = (years * np.column_stack([1 - female, female])[people.index]).sum(1)
    inputs = np.column_stack([mixed, *stages.values()])
    means = people.mean(inputs)
    image_variance = people.mean(mixed[:, None] ** 2)[:, 0] - means[:, 0] ** 2
    predictions = AgePredictions(means[:, 0], female, np.sqrt(image_variance.clip(0) + means[:, 1:].var(1)))

    def fit(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        model = AgeErrorModel.fit(predictions.take(rows), people.age[rows], cap)

        def predict(test: np.ndarray) -> np.ndarray:
            own = predictions.take(test)
            return np.column_stack(
                [model.error_probability(own, people.age[test]), model.expected(own), model.error_bound(own)]
            )

        return predict

    findings = []
    for index, (score, expected, bound) in enumerate(_cross_predict(people.fold, 3, fit)):
        years_by_stage = {stage: means[index, 1 + column] for column, stage in enumerate(stages)}
        suggested, recorded = float(np.clip(round(expected), 1, cap or 120)), _format_age(people.age[index], cap)
        about = f"about {_format_age(suggested, cap)}"
        reason = (
            f"{_years_text(years_by_stage)}; recorded {recorded}, and 95 % of right ages are within {bound:.0f} years of"
            f" {expected:.0f}"
        )
        findings.append(people.finding("age", index, f"{suggested:.0f}", recorded, about, score, reason))
    return findings


def _band_findings(people: _People, stage_outputs: StageOutputs) -> list[Finding]:
    """Ages judged by the band alone, where no stage predicts years."""
    values = np.column_stack([people.mean(stage_outputs.for_target(stage)) for stage in AGE_STAGES])
    stage_names = [stage_name for stage in AGE_STAGES for stage_name in stage_outputs.stages_for_target(stage)]
    band = band_of(people.age)
    posteriors = _LabelPosteriors.fit(values, stage_names, band, people.fold, len(BANDS))
    medians = [np.median(people.age[band == each]) if (band == each).any() else 45.0 for each in range(len(BANDS))]
    findings = []
    for index, (score, other) in enumerate(zip(posteriors.error_probability, posteriors.alternative, strict=True)):
        recorded = f"{people.age[index]:.0f}"
        reason = f"{posteriors.text(index, other, BANDS)}; recorded {recorded}"
        findings.append(people.finding("age", index, f"{medians[other]:.0f}", recorded, BANDS[other], score, reason))
    return findings


def _mask_findings(people: _People, stage_outputs: StageOutputs) -> list[Finding]:
    """Images with a wrong mask label, and people whose `normal` and `incorrect` files are swapped."""
    table = people.table
    given = table["mask"].map(MASKS.index).to_numpy()
    posteriors = _LabelPosteriors.fit(
        stage_outputs.for_target("mask"),
        stage_outputs.stages_for_target("mask"),
        given,
        table["fold"].to_numpy(),
        len(MASKS),
    )
    score, findings = posteriors.error_probability, []
    for index, pair, swapped in _swaps(people, posteriors):
        incorrect, normal = pair
        if swapped < max(MIN_SCORE, *np.minimum(score[list(pair)], 1 - swapped)):
            continue  # a single wrong label explains it better
        score[list(pair)] = 0
        paths = [str(table["path"].iloc[row]).rpartition("/")[2] for row in pair]
        findings.append(
            Finding(
                "swap",
                str(people.names[index]),
                str(people.names[index]),
                pair,
                "mask",
                "swap",
                "incorrect, normal",
                "swapped",
                swapped,
                f"{paths[0]}, recorded incorrect: {posteriors.text(incorrect, NORMAL, MASKS)};"
                f" {paths[1]}, recorded normal: {posteriors.text(normal, INCORRECT, MASKS)}",
            )
        )
    findings += [
        Finding(
            "mask",
            str(table["path"].iloc[row]),
            str(table["person"].iloc[row]),
            (int(row),),
            "mask",
            MASKS[posteriors.alternative[row]],
            MASKS[given[row]],
            MASKS[posteriors.alternative[row]],
            float(score[row]),
            f"{posteriors.text(int(row), int(posteriors.alternative[row]), MASKS)}; recorded {MASKS[given[row]]}",
        )
        for row in np.flatnonzero(score >= MIN_SCORE)
    ]
    return findings


def _swaps(people: _People, posteriors: _LabelPosteriors) -> list[tuple[int, tuple[int, int], float]]:
    """For each person with one image of either kind: the person, the rows of `incorrect` and of `normal`, and the
    probability that they are swapped. The share of swapped people is estimated on the other folds, by expectation
    maximization."""
    pairs = []
    for index, rows in enumerate(people.rows):
        incorrect, normal = (rows[posteriors.given[rows] == kind] for kind in (INCORRECT, NORMAL))
        if len(incorrect) == len(normal) == 1:
            pairs.append((index, (int(incorrect[0]), int(normal[0]))))
    if not pairs:
        return []
    person, (first, second) = np.array([index for index, _ in pairs]), np.array([pair for _, pair in pairs]).T
    p = np.clip(posteriors.probability, 1e-12, 1)
    # both labels right, one of them wrong, or the two swapped
    right = p[first, INCORRECT] * p[second, NORMAL]
    one_wrong = (1 - p[first, INCORRECT]) * p[second, NORMAL] + p[first, INCORRECT] * (1 - p[second, NORMAL])
    swapped, fold = p[first, NORMAL] * p[second, INCORRECT], people.fold[person]
    likelihood = np.column_stack([right, one_wrong, swapped])
    result = np.zeros(len(person))
    for held_out in np.unique(fold):
        others, shares = fold != held_out, SWAP_PRIOR / SWAP_PRIOR.sum()
        for _ in range(50):
            joint = likelihood[others] * shares
            shares = (joint / joint.sum(1, keepdims=True)).sum(0) + SWAP_PRIOR
            shares /= shares.sum()
        joint = likelihood[~others] * shares
        result[~others] = (joint / joint.sum(1, keepdims=True))[:, 2]
    return [(index, pair, float(probability)) for (index, pair), probability in zip(pairs, result, strict=True)]


def _years_by_stage(stage_outputs: StageOutputs) -> dict[str, np.ndarray]:
    """Years (N,) of every stage that predicts them."""
    columns = {
        stage: next((column for column, name in enumerate(names) if name in ("years", "age.years")), None)
        for stage, names in stage_outputs.columns.items()
    }
    return {
        stage: stage_outputs.logits[stage][:, column].astype(float)
        for stage, column in columns.items()
        if column is not None
    }


def _years_text(by_stage: dict[str, float]) -> str:
    verb = {1: "predicts", 2: "both predict"}.get(len(by_stage), "predict")
    return f"{_join(list(by_stage))} {verb} {_join([f'{years:.0f}' for years in by_stage.values()])}"


def _format_age(years: float, cap: float | None) -> str:
    return f"{years:.0f}" + (" or older" if cap is not None and years >= cap else "")


def _join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _format_probability(probability: float) -> str:
    """As `.97`; never 1."""
    return f"{min(float(probability), 0.999):.3f}".rstrip("0")[1:] if probability > 0.99 else f"{probability:.2f}"[1:]
