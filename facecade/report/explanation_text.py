"""The explanation of one image as text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from facecade.faces.words import NO_DETECTOR, band_note, class_in_words, in_words, prediction_in_words
from facecade.report.text import terminal

MAX_BAR_CELLS = 12
"""Length of the longest bar, in terminal cells."""

FAINT_STYLE = "bright_black"


def explanation_text(result: Mapping[str, Any], name: str) -> Iterator[RenderableType]:
    """The parts to print of an explanation (inference/explain.py) of the image called `name`, 80 columns wide."""
    count, (height, width) = len(result["faces"]), result["size"]
    faces = f", {count} faces" if count > 1 else ""
    flags = result["flag"].split()
    if "no-face" in flags:
        yield Text(NO_FACE, style="bold yellow")
    yield Text(terminal(f"{name}: {width}×{height} pixels{faces}"), style="bold")
    for flag, meaning in FLAGS.items():
        if flag in flags:
            yield Text(meaning, style="yellow")
    if not result["detects"]:
        yield Text(NO_DETECTOR, style="yellow")
    for number, face in enumerate(result["faces"], start=1):
        yield Text()
        if count > 1:
            yield Text(f"Face {number}" + (", the one that infer predicts" if number == 1 else ""), style="bold")
        yield from _face(face, result["method"], result["cuts"])


NO_FACE = "No face was found. What follows is predicted from the center of the image."

UNSURE = "Unsure: on people who were held out, the run was wrong too often at this confidence."

FLAGS = {
    "trained-on": "The run was trained on this image: it is less accurate on new people.",
    "pseudo-labelled": "The run was trained on this image, with another run's pseudo-label.",
}


def _face(face: Mapping[str, Any], method: str, cuts: Mapping[str, Any]) -> Iterator[RenderableType]:
    probability, contributions = face["probability"], face["contributions"]
    predicted = face["prediction"]
    yield Text(terminal(prediction_in_words(predicted, face["age"])), style="bold green")
    if "unsure" in face["flags"]:
        yield Text(UNSURE, style="yellow")
    if note := band_note(predicted, face["age"], cuts):
        yield Text(f"{note[:1].upper()}{note[1:]}.")
    yield Text(
        f"class {predicted} ({face['name']}), confidence {face['confidence']:.2f}, probability {probability[predicted]:.2f}"
    )
    if contributions:
        runner_up = terminal(class_in_words(contributions["runner_up"]))
        yield Text(
            f"then {runner_up}, {probability[contributions['runner_up']]:.2f}: {contributions['margin']:.2f} nats behind,"
            f" odds of {math.exp(contributions['margin']):.3g} to 1"
        )
    if box := face["box"]:
        yield Text(
            f"{box['right'] - box['left']:.0f}×{box['bottom'] - box['top']:.0f} pixels at"
            f" {box['left']:.0f}, {box['top']:.0f}; a face at {box['probability']:.3f}",
            style=FAINT_STYLE,
        )
    yield Text()
    yield _indented(_predictions(face))
    if face["regressors"]:
        yield Text()
        yield _indented(_regressors(face["regressors"]))
    yield Text()
    yield _indented(_stage_predictions(face["stage_predictions"]))
    yield Text()
    yield Text(terminal(uncertainty_text(face["least_confident"], face["most_disagreement"])))
    yield Text()
    if not contributions:
        yield Text(f"Combined by: {method}. This method is not a sum, so there are no contributions.")
        return
    yield Text(
        terminal(f"Contributions to the margin of {class_in_words(predicted)}, in nats (combined by: {method}):")
    )
    yield Text()
    yield _indented(_contributions(contributions["parts"]))


def _predictions(face: Mapping[str, Any]) -> Table:
    """The predictions of the three targets, each with its alternatives."""
    table = _table()
    for target in ("mask", "gender", "band"):
        ranked = sorted(face[target].items(), key=lambda item: -item[1])
        cells = [Text(terminal(f"{in_words(code)} {probability:.2f}")) for code, probability in ranked]
        cells[0].stylize("bold")
        table.add_row(target, *cells, *[""] * (3 - len(cells)))
    if face["age"] is not None:
        each = [f"if a {in_words(gender)} {face[f'age_if_{gender}']:.0f}" for gender in ("male", "female")]
        table.add_row("age", Text(f"{face['age']:.0f} years", style="bold"), *each)
    return table


def _regressors(regressors: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("regressor", "years", "networks", "cuts", "band")
    for each in regressors:
        cuts = f"{each['cuts'][0]:.1f} and {each['cuts'][1]:.1f}" if each["cuts"] else "none"
        table.add_row(
            in_words(each["gender"]),
            f"{each['years']:.1f}",
            value_range(each["years_by_network"], 1),
            cuts,
            terminal(in_words(each["band"] or "")),
        )
    return table


def _stage_predictions(stage_predictions: Sequence[Mapping[str, Any]]) -> Table:
    """Each stage's prediction, and the range of its networks."""
    table = _table("stage", "target", "prediction", "prob.", "years", "networks", "agree")
    for each in stage_predictions:
        years, probability = each["years"], each["probability"]
        agree = Text(f"{each['agree']} of {each['networks']}", style="" if each["agree"] == each["networks"] else "red")
        table.add_row(
            each["stage"],
            each["target"],
            terminal(in_words(each["prediction"])),
            "" if probability is None else f"{probability:.2f}",
            "" if years is None else f"{years:.1f}",
            value_range(each["probability_by_network"], 2)
            if years is None
            else value_range(each["years_by_network"], 1),
            agree,
        )
    return table


def uncertainty_text(least_confident: Mapping[str, Any], most_disagreement: Mapping[str, Any] | None) -> str:
    """A sentence on the least confident stage, and on the one whose networks disagree most."""
    text = f"Least confident: {stage_and_target(least_confident)}, {in_words(least_confident['prediction'])} at {least_confident['probability']:.2f}."
    if most_disagreement:
        others = most_disagreement["networks"] - most_disagreement["agree"]
        text += f" Networks disagree most: {stage_and_target(most_disagreement)}, {others} of {most_disagreement['networks']}"
        return (
            f"{text} {'predict' if others > 1 else 'predicts'} other than {in_words(most_disagreement['prediction'])}."
        )
    return text + (" Its networks agree." if least_confident["networks"] > 1 else "")


def stage_and_target(prediction: Mapping[str, Any]) -> str:
    """As `joint on age`; the stage alone if its name tells the target."""
    stage, target = prediction["stage"], prediction["target"]
    return stage if target in stage else f"{stage} on {target}"


def _contributions(parts: Mapping[str, float]) -> Table:
    """Each stage's contribution by component of the combiner, the largest in total first."""
    components = list(dict.fromkeys(part.partition(": ")[0] for part in parts if ": " in part))
    by_stage: dict[str, dict[str, float]] = {}
    for part, value in parts.items():
        component, _, stage_name = part.partition(": ")
        by_stage.setdefault(stage_name or part, {})[component] = value
    total = {stage_name: sum(values.values()) for stage_name, values in by_stage.items()}
    largest = max(abs(value) for value in total.values()) or 1.0
    table = _table("", *components, "total", "")
    for stage_name in sorted(total, key=lambda stage_name: -abs(total[stage_name])):
        value = total[stage_name]
        if not _signed(value):
            continue
        bar = Text("▇" * max(1, round(abs(value) / largest * MAX_BAR_CELLS)), style="green" if value > 0 else "red")
        cells = [_signed(by_stage[stage_name].get(component, 0.0)) for component in components]
        table.add_row(PART_NAMES.get(stage_name, stage_name), *cells, _signed(value), bar)
    return table


PART_NAMES = {"constant": "baseline", "ages": "ages relative to cuts"}
"""Texts for the parts that belong to no single stage (combiner/contributions.py)."""


def part_name(part: str) -> str:
    """A part of a combiner in words: `soft vote: constant` → `soft vote: baseline`."""
    component, colon, name = part.rpartition(": ")
    return f"{component}{colon}{PART_NAMES.get(name, name)}"


def _signed(value: float) -> str:
    """A number with its sign; empty if it rounds to zero."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else ""


def value_range(values: Sequence[float], digits: int) -> str:
    """The smallest and the largest value; empty for a single value."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else ""


def _table(*head: str) -> Table:
    table = Table(box=None, show_header=any(head), pad_edge=False, padding=(0, 2, 0, 0), header_style=FAINT_STYLE)
    for name in head:
        table.add_column(name, justify="right" if name in NUMERIC_COLUMNS else "left", no_wrap=True)
    return table


NUMERIC_COLUMNS = ("prob.", "years", "soft vote", "trees", "logistic", "total")


def _indented(table: Table) -> Padding:
    return Padding(table, (0, 0, 0, 2), expand=False)
