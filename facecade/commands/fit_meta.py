"""`fit-meta`: stack the fitted stages into 18 labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns, difference, interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from facecade.records import CombinerRecord


@click.command("fit-meta", cls=Command)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a combiner key, for example combiner.rounds=80.",
)
@click.option(
    "--recipe",
    type=options.Shipped("recipe"),
    help="Use the settings of this recipe, by name or path.  [default: the run's]",
)
@options.MLFLOW
@options.WANDB
@options.ARTIFACTS
@options.JSON
def command(
    settings: tuple[str, ...],
    recipe: Path | None,
    mlflow: str | None,
    wandb: str | None,
    artifacts: Path,
    as_json: bool,
) -> None:
    """Stack the fitted stages into 18 labels.

    Prints the nested score of every combining method, and keeps the best.

    \b
    Example:
      python cli.py fit-meta --artifacts artifacts
    """
    from facecade import pipeline
    from facecade.recipe_file import override, read_toml
    from facecade.report.tracking import open_tracker
    from facecade.runs.describe import next_step
    from facecade.runs.run import change_recipe, open_run

    tracker = open_tracker(mlflow, wandb, artifacts)
    run = open_run(artifacts)
    if settings or recipe:
        run = change_recipe(run, override(read_toml(recipe) if recipe else run.tables, settings, []))
    record = pipeline.fit_meta(run, tracker)
    click.echo(json.dumps(record.json_value(), indent=2) if as_json else _meta_text(record))
    say_next(run.command("report"), next_step(run))


def _meta_text(record: CombinerRecord) -> str:
    rows = [
        [
            ("* " if name == record.method else "  ") + name,
            interval(scores["macro-F1"]),
            interval(scores["accuracy"]),
        ]
        for name, scores in record.nested.items()
    ]
    choice, gain = record.nested_choice, record.gain_over_simplest
    others = {name: value for name, value in choice.items() if name not in ("macro-F1", "accuracy")}
    ahead = "" if record.method == record.simplest else f", {difference(gain)} against {record.simplest}"
    return "\n".join(
        [
            "Nested out-of-fold scores, 95 % intervals over people:",
            "",
            columns(rows, ["  combining method", "macro-F1", "accuracy"]),
            "",
            f"Selected: {record.method}, with the highest nested macro-F1{ahead}.",
            f"Expect on new people (the choice itself nested): macro-F1 {interval(choice['macro-F1'])},"
            f" accuracy {interval(choice['accuracy'])}.",
            ", ".join(f"{name} {interval(value, 2 if name == 'age MAE' else 4)}" for name, value in others.items())
            + ".",
            *_cuts_text(record.cuts),
            *[f"Also trained on: {text}." for text in record.extra_data],
        ]
    )


def _cuts_text(cuts: Mapping[str, tuple[float, float]]) -> list[str]:
    """The fitted cuts in one line; no line if no stage predicts years."""
    text = "; ".join(f"{name} {low:.2f} and {high:.2f}" for name, (low, high) in cuts.items())
    return [f"Cuts in years: {text}."] if text else []
