"""`evaluate`: score predictions against labels, with 95 % intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecade.base.program import command as command_line
from facecade.base.program import option
from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns, interval, terminal

if TYPE_CHECKING:
    from facecade.report.evaluate import Evaluation


@click.command("evaluate", cls=Command)
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@options.artifacts("artifacts", "Run that made the predictions; for the line Next: alone.", "FACECADE_ARTIFACTS")
@options.OUTPUT
@options.JSON
def command(predictions: Path, labels: Path, artifacts: Path, output: Path, as_json: bool) -> None:
    """Score predictions against labels, with 95 % intervals.

    PREDICTIONS is a submission.csv or predictions.csv, LABELS a CSV with ImageID,ans and, if known, age and person.

    \b
    Example:
      python cli.py evaluate output/submission.csv eval/eval_labels.csv
    """
    from facecade.base.lock import locked
    from facecade.report.evaluate import evaluate as score
    from facecade.report.evaluate import match

    matched = match(predictions, labels)
    with locked(output):
        result = score(matched, output)
    click.echo(json.dumps(result.json_value(), indent=2) if as_json else _score_text(result))
    words = "report" + option("--artifacts", artifacts, "artifacts") + option("--output", output, "output")
    say_next(command_line(words))


def _answered_text(result: Evaluation) -> list[str]:
    """Coverage and scores of what is not unsure; nothing where everything is answered."""
    from facecade.report.risk_text import percent

    if not (answered := result.answered):
        return []
    scores = "; ".join(f"{name} {interval(value)}" for name, value in answered.score.items())
    return [
        "",
        f"Answered: {answered.images} images ({percent(answered.coverage)}){f': {scores}' if scores else ''}. The others are unsure.",
    ]


def _score_text(result: Evaluation) -> str:
    from facecade.faces.words import class_in_words

    digits = {"age MAE": 2}
    rows = [[name, interval(value, digits.get(name, 4))] for name, value in result.score.items()]
    classes = [
        [str(label), terminal(class_in_words(label)), str(count), "-" if f1 is None else f"{f1:.3f}"]
        for label, (count, f1) in enumerate(zip(result.per_class_count, result.per_class_f1, strict=True))
    ]
    return "\n".join(
        [
            f"{result.counted()}, 95 % intervals over {'images' if result.people is None else 'people'}",
            "",
            columns(rows, ["score", "value"]),
            *_answered_text(result),
            "",
            columns(classes, ["class", "meaning", "images", "F1"]),
        ]
    )
