"""How the scores differ between groups of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.faces.labels import AXES, decode
from facecade.report.metrics import Interval, bootstrap_interval, bootstrap_weights, sum_by_person
from facecade.report.nested import NestedPredictions
from facecade.report.results import score_interval


@dataclass(frozen=True)
class Gap:
    """The best and the worst group of one kind in a score, and the difference between them."""

    score: str
    better: str
    worse: str
    difference: Interval

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.difference.low > 0


def group_means(
    values: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray], person: np.ndarray
) -> tuple[dict[str, dict[str, Interval]], list[Gap]]:
    """The mean of each score in each group, and the widest gap in each score; intervals by bootstrap over people.

    The same people are drawn for all groups, so that groups that share people are compared in pairs.

    Args:
        values: scores of each row, float (N,), such as whether its prediction is right; of those named "… error" less
            is better.
        groups: rows of each group, bool (N,).
        person: (N,), the person of each row.

    Returns:
        means by group and score; a gap for each score, if there is more than one group.
    """
    columns = np.column_stack([*values.values(), np.ones(len(person))])
    sums = sum_by_person(person, np.concatenate([columns * rows[:, None] for rows in groups.values()], axis=1))
    shape = (-1, len(groups), len(values) + 1)
    drawn, whole = (bootstrap_weights(len(sums)) @ sums).reshape(shape), sums.sum(0).reshape(shape)[0]
    with np.errstate(invalid="ignore"):  # a group may be missing from a draw
        drawn, whole = drawn[..., :-1] / drawn[..., -1:], whole[:, :-1] / whole[:, -1:]
    names = list(groups)
    result = {
        group: {score: bootstrap_interval(whole[g, s], drawn[:, g, s]) for s, score in enumerate(values)}
        for g, group in enumerate(names)
    }
    gaps = []
    for s, score in enumerate(values):
        sign = -1 if score.endswith("error") else 1
        best, worst = int(np.argmax(sign * whole[:, s])), int(np.argmin(sign * whole[:, s]))
        difference = bootstrap_interval(
            sign * (whole[best, s] - whole[worst, s]), sign * (drawn[:, best, s] - drawn[:, worst, s])
        )
        gaps.append(Gap(score, names[best], names[worst], difference))
    return result, gaps if len(names) > 1 else []


def thirds(values: np.ndarray, names: tuple[str, str, str]) -> dict[str, np.ndarray]:
    """Rows (N,) of the lowest, the middle and the highest third of some values."""
    low, high = np.nanquantile(values, [1 / 3, 2 / 3])
    return dict(zip(names, (values <= low, (values > low) & (values <= high), values > high), strict=True))


@dataclass(frozen=True)
class GroupComparison:
    """Scores of the groups of one kind, and the widest gap in each score."""

    kind: str
    count: Mapping[str, int]
    scores: Mapping[str, Mapping[str, Interval]]
    gaps: Sequence[Gap]


def compare_groups(
    nested: NestedPredictions, quality: Mapping[str, np.ndarray], found: np.ndarray | None
) -> list[GroupComparison]:
    """Scores by gender, band, mask state and image quality.

    Args:
        quality: `brightness` and `sharpness` of each crop (N,).
        found: whether a face was detected (N,); None without a detector.
    """
    true, predicted = decode(nested.label), decode(nested.prediction)
    values = {f"{axis} accuracy": (true[index] == predicted[index]).astype(float) for index, axis in enumerate(AXES)}
    values = {"accuracy": (nested.label == nested.prediction).astype(float), **values}
    if not np.isnan(nested.years).any() and not np.isnan(nested.age).any():
        values["age error"] = np.abs(nested.years - nested.age)
    kinds: dict[str, dict[str, np.ndarray]] = {
        axis: {name: true[index] == value for value, name in enumerate(names)}
        for index, (axis, names) in enumerate(AXES.items())
    }
    names = {
        "brightness": ("darkest third", "middle", "brightest third"),
        "sharpness": ("blurred third", "middle", "sharpest third"),
    }
    kinds |= {kind: thirds(quality[kind], names[kind]) for kind in quality}
    if found is not None:
        kinds["face"] = {"found": found, "not found": ~found}
    compared = []
    for kind, groups in kinds.items():
        groups = {name: rows for name, rows in groups.items() if rows.any()}
        compared.append(
            GroupComparison(
                kind,
                {name: int(rows.sum()) for name, rows in groups.items()},
                *group_means(values, groups, nested.person),
            )
        )
    return compared


def gaps_text(compared: GroupComparison) -> str:
    """A sentence on the gaps whose interval excludes zero; empty if there is none."""
    clear = [
        f"{gap.score}: {gap.worse} is behind {gap.better} by {score_interval(gap.score, gap.difference.json(), 3)}"
        for gap in compared.gaps
        if gap.significant
    ]
    return "Significant gaps. " + "; ".join(clear) + "." if clear else ""
