"""`compare`: train several recipes on the same people and folds, and rank them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecade import shipped
from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next

if TYPE_CHECKING:
    from facecade.faces.reading import Reading


@click.command("compare", cls=Command)
@click.argument("recipes", nargs=-1, required=True, type=options.Shipped("recipe"), metavar="RECIPE...")
@click.option("--data", type=options.DataPath(), required=True, help="Training data.")
@click.option(
    "--budget", type=options.Shipped("budget"), help="Compute budget that every recipe is scaled to, by name or path."
)
@click.option(
    "--eval", "evaluation", type=click.Path(path_type=Path), help="Evaluation folder, also predicted and scored."
)
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of the --eval folder.")
@click.option(
    "--folds", type=click.IntRange(3), default=4, show_default=True, help="Number of folds, the same for all recipes."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of times each network is trained; the average is scored.",
)
@options.SAME_PERSON
@options.reading
@options.executor
@options.JOBS
@options.THREADS
@options.artifacts("artifacts/compare", "Folder of the comparison, with one run for each recipe.")
@options.OUTPUT
@options.OVERWRITE
@options.DEVICE
@options.WORKERS
@options.MLFLOW
@options.WANDB
@options.JSON
def command(
    recipes: tuple[Path, ...],
    data: Path,
    budget: Path | None,
    evaluation: Path | None,
    labels: Path | None,
    folds: int,
    seed: int,
    repeats: int,
    same_person: tuple[Path, ...],
    reading: Reading,
    executor: str,
    executor_options: tuple[str, ...],
    jobs: int,
    threads: int,
    artifacts: Path,
    output: Path,
    overwrite: bool,
    device: str,
    workers: int,
    mlflow: str | None,
    wandb: str | None,
    as_json: bool,
) -> None:
    """Train recipes on the same people and folds; rank them.

    Call it again to continue after a stop.
    Writes leaderboard.md, leaderboard.csv and leaderboard.json.

    \b
    Example:
      python cli.py compare quick published/resnet34-soft --data DATA --budget cpu
    """
    from facecade.base.artifact import write_csv, write_json, write_text
    from facecade.base.errors import FacecadeError
    from facecade.base.lock import locked, require_free
    from facecade.base.machine import Machine
    from facecade.base.origin import Claim
    from facecade.comparison.budget import read_budget
    from facecade.comparison.compare import ComparisonSettings
    from facecade.comparison.compare import compare as run_comparison
    from facecade.report.leaderboard import flat_table, markdown
    from facecade.report.tracking import open_tracker

    if (evaluation is None) != (labels is None):
        raise FacecadeError("--eval and --labels must be given together", "give both, or neither")
    evaluation_files = (evaluation, labels) if evaluation and labels else None
    comparison_settings = ComparisonSettings(
        data, folds, seed, read_budget(budget) if budget else None, evaluation_files, repeats, same_person, reading
    )
    tracker = open_tracker(mlflow, wandb, artifacts)
    machine = Machine(device, jobs, threads, workers, executor=executor, executor_options=executor_options)
    files, inputs = [f"leaderboard.{ending}" for ending in ("md", "csv", "json")], {"runs": artifacts, "data": data}
    require_free(output)
    claim = Claim(output, "leaderboard", files, inputs, overwrite)
    with locked(artifacts):
        result = run_comparison(recipes, artifacts, comparison_settings, machine, tracker)
    with locked(output):
        write_text(output / "leaderboard.md", markdown(result))
        write_csv(output / "leaderboard.csv", flat_table(result))
        write_json(output / "leaderboard.json", result)
        claim.write()
    click.echo(json.dumps(result, indent=2) if as_json else markdown(result))
    if result["entries"]:
        best = next(path for path in recipes if path.stem == result["entries"][0]["recipe"])
        name = shlex.quote(shipped.name_of("recipe", best))
        words = f"fit-stage all {options.data_words(data, reading, same_person)} --recipe {name}"
        say_next(command_line(words))
    if result["failed"]:
        raise click.exceptions.Exit(1)
