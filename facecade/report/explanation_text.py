"""An explanation of one image as people read it in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDEST = 12
"""Cells of the longest bar."""

PALE = "bright_black"


def explained(result: Mapping[str, Any], name: str) -> Iterator[RenderableType]:
    """What to print for an explanation (inference/explain.py) of the image called `name`, 80 columns wide."""
    count, (height, width) = len(result["faces"]), result["size"]
    found = f", {count} faces" if count > 1 else ""
    yield Text(f"{name}: {width}×{height} pixels{found}", style="bold")
    for flag, meaning in FLAGS.items():
        if flag in result["flag"].split():
            yield Text(meaning, style="yellow")
    for number, face in enumerate(result["faces"], start=1):
        yield Text()
        if count > 1:
            yield Text(f"Face {number}" + (", the one that infer answers for" if number == 1 else ""), style="bold")
        yield from _face(face, result["method"])


FLAGS = {
    "no-face": "No face was found; what follows is about the image's centre.",
    "trained-on": "The run learned from this image: of strangers it knows less.",
    "pseudo-labelled": "The run learned from this image, by another run's label.",
}


def _face(face: Mapping[str, Any], method: str) -> Iterator[RenderableType]:
    said, contributions = face["probability"], face["contributions"]
    prediction = Text.assemble((face["name"], "bold green"), f"  class {face['prediction']}, probability ")
    yield prediction.append(f"{said[face['prediction']]:.2f}")
    if contributions:
        yield Text(
            f"then {contributions['runner_up_name']}, {said[contributions['runner_up']]:.2f}: {contributions['margin']:.2f} nats behind,"
            f" odds of {math.exp(contributions['margin']):.3g} to 1"
        )
    if box := face["box"]:
        yield Text(
            f"{box['right'] - box['left']:.0f}×{box['bottom'] - box['top']:.0f} pixels at"
            f" {box['left']:.0f}, {box['top']:.0f}; a face at {box['probability']:.3f}",
            style=PALE,
        )
    yield Text()
    yield _indented(_answers(face))
    if face["regressors"]:
        yield Text()
        yield _indented(_regressors(face["regressors"]))
    yield Text()
    yield _indented(_stage_predictions(face["stage_predictions"]))
    yield Text()
    yield Text(doubts(face["least_confident"], face["most_disagreement"]))
    yield Text()
    if not contributions:
        yield Text(f"Combined by: {method}. That adds nothing up, so no contributions can be given.")
        return
    yield Text(f"What contributed towards {face['name']}, in nats (combined by: {method}):")
    yield Text()
    yield _indented(_tipped(contributions["parts"]))


def _answers(face: Mapping[str, Any]) -> Table:
    """The three answers, each with the others that were possible."""
    table = _table()
    for target in ("mask", "gender", "band"):
        ranked = sorted(face[target].items(), key=lambda item: -item[1])
        cells = [Text(f"{word} {probability:.2f}") for word, probability in ranked]
        cells[0].stylize("bold")
        table.add_row(target, *cells, *[""] * (3 - len(cells)))
    if face["age"] is not None:
        each = [f"if {gender} {face[f'age_if_{gender}']:.0f}" for gender in ("male", "female")]
        table.add_row("age", Text(f"{face['age']:.0f} years", style="bold"), *each)
    return table


def _regressors(regressors: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("regressor", "years", "networks", "cuts", "band")
    for each in regressors:
        cuts = f"{each['cuts'][0]:.1f} and {each['cuts'][1]:.1f}" if each["cuts"] else "none"
        table.add_row(
            each["gender"], f"{each['years']:.1f}", spread(each["years_by_network"], 1), cuts, each["band"] or ""
        )
    return table


def _stage_predictions(stage_predictions: Sequence[Mapping[str, Any]]) -> Table:
    """What each stage says, and how far its networks are apart."""
    table = _table("stage", "asked", "says", "sure", "years", "networks", "agree")
    for said in stage_predictions:
        years, sure = said["years"], said["probability"]
        agree = Text(f"{said['agree']} of {said['networks']}", style="" if said["agree"] == said["networks"] else "red")
        table.add_row(
            said["stage"],
            said["target"],
            said["prediction"],
            "" if sure is None else f"{sure:.2f}",
            "" if years is None else f"{years:.1f}",
            spread(said["probability_by_network"], 2) if years is None else spread(said["years_by_network"], 1),
            agree,
        )
    return table


def doubts(least_confident: Mapping[str, Any], most_disagreement: Mapping[str, Any] | None) -> str:
    text = f"Least sure: {named(least_confident)}, {least_confident['prediction']} at {least_confident['probability']:.2f}."
    if most_disagreement:
        others = most_disagreement["networks"] - most_disagreement["agree"]
        text += f" Networks disagree most: {named(most_disagreement)}, {others} of {most_disagreement['networks']}"
        return f"{text} {'say' if others > 1 else 'says'} other than {most_disagreement['prediction']}."
    return text + (" Its networks agree." if least_confident["networks"] > 1 else "")


def named(said: Mapping[str, Any]) -> str:
    return said["stage"] if said["target"] in said["stage"] else f"{said['stage']} on {said['target']}"


def _tipped(parts: Mapping[str, float]) -> Table:
    """Who moved the answer, in which part of the combiner, the largest first; then what was nobody's."""
    where = list(dict.fromkeys(part.partition(": ")[0] for part in parts if ": " in part))
    by_stage: dict[str, dict[str, float]] = {}
    for part, value in parts.items():
        heard, _, stage_name = part.partition(": ")
        by_stage.setdefault(stage_name or part, {})[heard] = value
    total = {stage_name: sum(values.values()) for stage_name, values in by_stage.items()}
    most = max(abs(value) for value in total.values()) or 1.0
    table = _table("", *where, "in all", "")
    for stage_name in sorted(total, key=lambda stage_name: -abs(total[stage_name])):
        value = total[stage_name]
        if not _signed(value):
            continue
        bar = Text("▇" * max(1, round(abs(value) / most * WIDEST)), style="green" if value > 0 else "red")
        cells = [_signed(by_stage[stage_name].get(place, 0.0)) for place in where]
        table.add_row(SPOKEN.get(stage_name, stage_name), *cells, _signed(value), bar)
    return table


SPOKEN = {"constant": "said of any face", "ages": "ages against cuts"}
"""Parts that no stage says (combiner/contributions.py), in words."""


def _signed(value: float) -> str:
    """Empty where it rounds to nothing."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else ""


def spread(values: Sequence[float], digits: int) -> str:
    """The least and the largest; nothing where there is but one."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else ""


def _table(*head: str) -> Table:
    table = Table(box=None, show_header=any(head), pad_edge=False, padding=(0, 2, 0, 0), header_style=PALE)
    for name in head:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    return table


NUMBERS = ("sure", "years", "soft vote", "trees", "logistic", "in all")


def _indented(table: Table) -> Padding:
    return Padding(table, (0, 0, 0, 2), expand=False)
