"""`tune`: search for the settings of a stage with the best score."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns

if TYPE_CHECKING:
    from facecade.faces.reading import Reading


@click.command("tune", cls=Command)
@click.argument("stage")
@click.option("--data", type=options.DataPath(), required=True, help="Training data.")
@click.option(
    "--recipe",
    type=options.Shipped("recipe"),
    default="cpu",
    show_default=True,
    help="Recipe that the trials vary, by name or path.",
)
@click.option(
    "--space",
    type=options.Shipped("space"),
    default="default",
    show_default=True,
    help="Search space, by name or path.",
)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Total number of trials.")
@click.option("--fold", "folds", type=click.IntRange(0), multiple=True, help="Folds of a trial.  [default: 0 and 1]")
@click.option("--measure", help="Measure to optimize.  [default: the stage's own]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe before the search."
)
@options.SAME_PERSON
@options.reading
@options.artifacts("artifacts/tune", "Folder of the study.")
@options.executor
@options.DEVICE
@options.WORKERS
@options.MLFLOW
@options.WANDB
@options.JSON
def command(
    stage: str,
    data: Path,
    recipe: Path,
    space: Path,
    trials: int,
    folds: tuple[int, ...],
    measure: str | None,
    settings: tuple[str, ...],
    same_person: tuple[Path, ...],
    reading: Reading,
    artifacts: Path,
    executor: str,
    executor_options: tuple[str, ...],
    device: str,
    workers: int,
    mlflow: str | None,
    wandb: str | None,
    as_json: bool,
) -> None:
    """Search for the settings of a stage with the best score.

    Scores are on held-out training people. Call it again to continue after a stop.
    Writes tuning.json, and the best trial as a recipe, best.toml.

    \b
    Example:
      python cli.py tune age-male --data DATA --trials 30
    """
    from facecade.base.artifact import writing
    from facecade.base.errors import unknown_name
    from facecade.base.lock import locked
    from facecade.base.machine import Machine
    from facecade.comparison.tune import Search, read_space
    from facecade.comparison.tune import tune as search
    from facecade.recipe_file import changed_by, override, parse, read_toml
    from facecade.report.tracking import open_tracker
    from facecade.runs.begin import DataOptions

    tables = read_toml(recipe)
    stages = parse(tables, str(recipe)).stages
    if stage not in stages:
        raise unknown_name("stage", stage, stages)
    tables = override(tables, settings, [stage])
    parse(tables, f"{recipe} with {changed_by(settings)}")
    search_settings = Search(stage, measure, read_space(space), trials, folds or (0, 1))
    tracker = open_tracker(mlflow, wandb, artifacts / stage)
    machine = Machine(device, 1, 1, workers, executor=executor, executor_options=executor_options)
    with locked(artifacts / stage), writing(artifacts / stage):  # Optuna does not name its file
        data_options = DataOptions(same_person=same_person, reading=reading)
        result = search(data, data_options, tables, artifacts / stage, search_settings, machine, tracker)
    click.echo(json.dumps(result, indent=2) if as_json else _tuning_text(result, artifacts / stage))
    best = shlex.quote(str(artifacts / stage / "best.toml"))
    say_next(command_line(f"fit-stage {stage} {options.data_words(data, reading, same_person)} --recipe {best}"))


def _tuning_text(result: dict[str, Any], folder: Path) -> str:
    best = result["best"]
    trials = [
        [str(item["trial"]), item["state"], "-" if item["score"] is None else f"{item['score']:.4f}"]
        + [f"{value:.4g}" if isinstance(value, float) else str(value) for value in item["settings"].values()]
        for item in sorted(result["trials"], key=lambda item: item["trial"])
    ]
    importance = ", ".join(f"{name} {share:.0%}" for name, share in result["importance"].items())
    return "\n".join(
        [
            columns(trials, ["trial", "state", result["measure"], *best["settings"]]),
            "",
            f"Best: trial {best['trial']}, {result['measure']} {best['score']:.4f} on folds {result['folds']}."
            " It was selected on the people it is scored on, so this score is slightly too high.",
            *([f"Importance: {importance}."] if importance else []),
            f"The best trial as a recipe: {folder / 'best.toml'}",
        ]
    )
