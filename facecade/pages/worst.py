"""The worst errors: the images, attention maps, and what contributed to the predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecade.combiner.contributions import CONSTANT, WEIGHTS, contributions
from facecade.combiner.methods import FittedCombiner
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import AXES, decode
from facecade.faces.words import class_in_words
from facecade.html import elements
from facecade.inference.attention import attention, overlay, targets
from facecade.pages.page import Section
from facecade.report.calibration import by_axis
from facecade.report.explanation_text import part_name
from facecade.report.nested import NestedPredictions
from facecade.stages.fit import Fit

MAX_ERRORS = 24
"""Errors on the page."""


@dataclass(frozen=True)
class WrongPrediction:
    """A wrong prediction.

    row: of the sample table. axis: of `faces.labels.AXES`, the wrong one whose recorded value is the least probable.
    contributions: of each part of the combiner to the margin of the predicted over the recorded class, in nats, the largest
    first.
    """

    row: int
    axis: str
    contributions: Mapping[str, float]


def worst_errors(
    nested: NestedPredictions, combiner: FittedCombiner, stage_outputs: StageOutputs, count: int = MAX_ERRORS
) -> list[WrongPrediction]:
    """The wrong predictions whose recorded class is the least probable, one per person.

    Args:
        combiner: the final one, fitted on all rows; used only for the contributions.
        stage_outputs: of all N rows, out of fold.
    """
    wrong = np.flatnonzero(nested.prediction != nested.label)
    order = wrong[np.argsort(nested.probability[wrong, nested.label[wrong]], kind="stable")]
    _, first = np.unique(nested.person[order], return_index=True)
    true, predicted, marginal = decode(nested.label), decode(nested.prediction), by_axis(nested.probability)
    rows = order[np.sort(first)][:count]
    if not len(rows):
        return []
    parts, errors = contributions(combiner, stage_outputs.take(rows)), []
    for index, row in enumerate(rows):
        wrong_axes = {
            axis: marginal[axis][row, true[column][row]]
            for column, axis in enumerate(AXES)
            if true[column][row] != predicted[column][row]
        }
        prediction, label = nested.prediction[row], nested.label[row]
        margin = {name: float(nats[index, prediction] - nats[index, label]) for name, nats in parts.items()}
        largest_first = dict(sorted(margin.items(), key=lambda part: -abs(part[1])))
        axis = min(wrong_axes, key=lambda axis: wrong_axes[axis])
        errors.append(WrongPrediction(int(row), axis, largest_first))
    return errors


def attention_overlays(
    errors: Sequence[WrongPrediction],
    nested: NestedPredictions,
    crops: np.ndarray,
    fits: Callable[[int], Sequence[Fit]],
) -> list[tuple[np.ndarray, str]]:
    """Each error's crop, overlaid with the attention of a network that held the person out, and that network's stage.

    Args:
        crops: uint8 (len(errors), h, w, 3), RGB.
        fits: a fold → the fits of all stages that held this fold out.
    """
    fold, gender = nested.table["fold"].to_numpy(), nested.table["gender"].to_numpy()
    requested: dict[tuple[str, int, str], tuple[Fit, list[int]]] = {}
    for index, error in enumerate(errors):
        fit, target = _fit_and_target(fits(int(fold[error.row])), error.axis, gender[error.row])
        requested.setdefault((*fit.key, target), (fit, []))[1].append(index)
    overlays: dict[int, tuple[np.ndarray, str]] = {}
    for (_, _, target), (fit, indices) in requested.items():
        for index, attention_map in zip(indices, attention(fit, crops[indices], target), strict=True):
            overlays[index] = overlay(crops[index], attention_map), fit.stage.name
    return [overlays[index] for index in range(len(errors))]


def section(
    errors: Sequence[WrongPrediction],
    nested: NestedPredictions,
    crops: np.ndarray,
    overlays: Sequence[tuple[np.ndarray, str]],
) -> Section:
    """Every error with its crop, its attention map and its contributions."""
    figures = []
    for error, crop, (overlaid, stage) in zip(errors, crops, overlays, strict=True):
        row = nested.table.iloc[error.row]
        prediction, label = int(nested.prediction[error.row]), int(nested.label[error.row])
        years = nested.years[error.row]
        stages = [
            (name, nats) for name, nats in error.contributions.items() if CONSTANT not in name and name != WEIGHTS
        ]
        lines = [
            "/".join(Path(row["path"]).parts[-2:]),
            f"recorded: {class_in_words(label)}" + ("" if np.isnan(row["age"]) else f", {row['age']:.0f} years"),
            f"predicted: {class_in_words(prediction)}" + ("" if np.isnan(years) else f", {years:.0f} years"),
            f"probability {nested.probability[error.row, prediction]:.2f}, of the recorded class {nested.probability[error.row, label]:.3f}",
            "contributions: " + ", ".join(f"{part_name(name)} {nats:+.1f}" for name, nats in stages[:3]),
            f"attention: {stage}, {error.axis}",
        ]
        figures.append(
            ([elements.picture(crop, str(row["path"])), elements.picture(overlaid, f"attention of {stage}")], lines)
        )
    about = (
        "The wrong predictions whose recorded class is the least probable, one image per person: model errors, or wrong labels. "
        "Contributions are those of the stages to the margin of the predicted over the recorded class, in nats, the three largest. "
        "The attention map (Grad-CAM) is of a network that held the person out."
    )
    return Section("The worst errors", [elements.text(about), elements.gallery(figures)] if figures else [])


def _fit_and_target(fits: Sequence[Fit], axis: str, gender: str) -> tuple[Fit, str]:
    """The fit of a fold that is most specific to an axis, and the target to explain."""
    target = "age" if axis == "age band" else axis
    own_stage = {"age": f"age-{gender}"}.get(target, target)

    def rank(fit: Fit) -> int:
        matches = [fit.stage.name == own_stage, target in targets(fit.stage), target in fit.stage.name]
        return matches.index(True) if True in matches else len(matches)

    fit = min(fits, key=rank)
    known = targets(fit.stage)
    return fit, target if target in known else known[0]
