"""The worst errors: the images, where the networks looked, and what contributed to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecade.combiner.contributions import CONSTANT, WEIGHTS, contributions
from facecade.combiner.methods import FittedCombiner
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import AXES, class_name, decode
from facecade.inference.attention import attention, overlay, targets
from facecade.pages import page
from facecade.pages.page import Section
from facecade.report.calibration import by_axis
from facecade.report.nested import NestedPredictions
from facecade.stages.fit import Fit

COUNT = 24


@dataclass(frozen=True)
class Error:
    """A wrong answer. row: of the sample table. axis: of `faces.labels.AXES`, what it is most wrong about. parts: nats by which
    each part of the combiner spoke for the answer and against the recorded class, the largest first."""

    row: int
    axis: str
    parts: Mapping[str, float]


def worst_errors(
    nested: NestedPredictions, combiner: FittedCombiner, stage_outputs: StageOutputs, count: int = COUNT
) -> list[Error]:
    """The wrong answers whose label was thought the least probable, one of each person.

    Args:
        combiner: the kept one, fitted on everybody: asked why, not whether. voices: of all N rows, out of fold.
    """
    wrong = np.flatnonzero(nested.prediction != nested.label)
    order = wrong[np.argsort(nested.probability[wrong, nested.label[wrong]], kind="stable")]
    _, first = np.unique(nested.person[order], return_index=True)
    true, said, marginal = decode(nested.label), decode(nested.prediction), by_axis(nested.probability)
    rows = order[np.sort(first)][:count]
    if not len(rows):
        return []
    every, errors = contributions(combiner, stage_outputs.take(rows)), []
    for place, row in enumerate(rows):
        off = {
            axis: marginal[axis][row, true[which][row]]
            for which, axis in enumerate(AXES)
            if true[which][row] != said[which][row]
        }
        prediction, label = nested.prediction[row], nested.label[row]
        parts = {name: float(nats[place, prediction] - nats[place, label]) for name, nats in every.items()}
        largest_first = dict(sorted(parts.items(), key=lambda part: -abs(part[1])))
        errors.append(Error(int(row), min(off, key=lambda axis: off[axis]), largest_first))
    return errors


def attention_overlays(
    errors: Sequence[Error], nested: NestedPredictions, crops: np.ndarray, fits: Callable[[int], Sequence[Fit]]
) -> list[tuple[np.ndarray, str]]:
    """Each error's crop with the attention of a network that never saw the person laid over it, and whose it is.

    Args:
        crops: uint8 (len(errors), h, w, 3), RGB.
        fits: a fold → the fits of all stages that held it out.
    """
    fold, gender = nested.table["fold"].to_numpy(), nested.table["gender"].to_numpy()
    asked: dict[tuple[str, int, str], tuple[Fit, list[int]]] = {}
    for place, error in enumerate(errors):
        fit, target = _asked(fits(int(fold[error.row])), error.axis, gender[error.row])
        asked.setdefault((*fit.key, target), (fit, []))[1].append(place)
    shown: dict[int, tuple[np.ndarray, str]] = {}
    for (_, _, target), (fit, places) in asked.items():
        for place, found in zip(places, attention(fit, crops[places], target), strict=True):
            shown[place] = overlay(crops[place], found), fit.stage.name
    return [shown[place] for place in range(len(errors))]


def section(
    errors: Sequence[Error], nested: NestedPredictions, crops: np.ndarray, overlays: Sequence[tuple[np.ndarray, str]]
) -> Section:
    """Every error with its crop, its attention and its reasons."""
    figures = []
    for error, crop, (overlaid, stage) in zip(errors, crops, overlays, strict=True):
        row = nested.table.iloc[error.row]
        said, label = int(nested.prediction[error.row]), int(nested.label[error.row])
        years = nested.years[error.row]
        stages = [(name, nats) for name, nats in error.parts.items() if CONSTANT not in name and name != WEIGHTS]
        lines = [
            "/".join(Path(row["path"]).parts[-2:]),
            f"recorded: {class_name(label)}" + ("" if np.isnan(row["age"]) else f", {row['age']:.0f} years"),
            f"said: {class_name(said)}" + ("" if np.isnan(years) else f", {years:.0f} years"),
            f"probability {nested.probability[error.row, said]:.2f}, of the recorded {nested.probability[error.row, label]:.3f}",
            "for it: " + ", ".join(f"{name} {nats:+.1f}" for name, nats in stages[:3]),
            f"attention: {stage}, {error.axis}",
        ]
        figures.append(([page.picture(crop, str(row["path"])), page.picture(overlaid, f"attention of {stage}")], lines))
    about = (
        "The answers whose recorded class was thought the least probable, one image of a person: the worst errors, or wrong labels. "
        "“For it” are the stages that spoke most for the answer and against the recorded class, in nats. The attention (Grad-CAM) is that of a network that held the person out."
    )
    return Section("The worst errors", [page.text(about), page.gallery(figures)] if figures else [])


def _asked(fits: Sequence[Fit], axis: str, gender: str) -> tuple[Fit, str]:
    """Of a fold's fits the one that knows most of an axis, and what it is asked."""
    target = "age" if axis == "age band" else axis
    own = {"age": f"age-{gender}"}.get(target, target)

    def rank(fit: Fit) -> int:
        known = [fit.stage.name == own, target in targets(fit.stage), target in fit.stage.name]
        return known.index(True) if True in known else len(known)

    fit = min(fits, key=rank)
    known = targets(fit.stage)
    return fit, target if target in known else known[0]
