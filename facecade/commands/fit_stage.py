"""`fit-stage`: train stages, fold by fold."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from facecade.faces.reading import Reading
    from facecade.records import FitRecord
    from facecade.runs.run import Run


@click.command("fit-stage", cls=Command)
@click.argument("stages", nargs=-1, required=True, metavar="STAGE...")
@click.option("--data", type=options.DataPath(), help="Training data. Later commands read its path from the run.")
@click.option("--recipe", type=options.Shipped("recipe"), help="Recipe of a new run, by name or path.  [default: cpu]")
@click.option("--fold", "folds", type=click.IntRange(0), multiple=True, help="Fit only this fold (may be repeated).")
@click.option("--resume", is_flag=True, help="Keep current fits, and continue others from their checkpoints.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, for example stages.mask.lr=1e-3.",
)
@click.option("--weights", metavar="none|hub|package|released|FILE", help="Initial weights; short for --set weights=….")
@click.option(
    "--corrections",
    type=options.Shipped("corrections"),
    multiple=True,
    help="CSV of label corrections: id,field,value (may be repeated).",
)
@options.SAME_PERSON
@options.reading
@click.option("--skip-bad", is_flag=True, help="Skip bad rows and files, and list each.")
@click.option(
    "--pseudo",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Also train on the pseudo-labels of RUN: see pseudo-label.",
)
@click.option(
    "--extra",
    type=options.DataPath(),
    metavar="DATA",
    help="Also train on these labelled images, which are never scored.",
)
@options.executor
@options.JOBS
@options.THREADS
@options.LOCAL_DISK
@click.option(
    "--stored-crops",
    is_flag=True,
    help="Read the run's face crops and no image: another machine has just checked the images.",
)
@options.COMPILE
@options.AUTOCAST
@click.option("--dry-run", is_flag=True, help="Check data and recipe, list what would be fitted, write nothing.")
@options.MLFLOW
@options.WANDB
@options.ARTIFACTS
@options.DEVICE
@options.WORKERS
@options.JSON
def command(
    stages: tuple[str, ...],
    data: Path | None,
    recipe: Path | None,
    folds: tuple[int, ...],
    resume: bool,
    settings: tuple[str, ...],
    weights: str | None,
    corrections: tuple[Path, ...],
    same_person: tuple[Path, ...],
    reading: Reading,
    skip_bad: bool,
    pseudo: Path | None,
    extra: Path | None,
    executor: str,
    executor_options: tuple[str, ...],
    jobs: int,
    threads: int,
    local_disk: Path | None,
    stored_crops: bool,
    compiled: bool,
    autocast: bool | None,
    dry_run: bool,
    mlflow: str | None,
    wandb: str | None,
    artifacts: Path,
    device: str,
    workers: int,
    as_json: bool,
) -> None:
    """Train stages, fold by fold.

    STAGE is a stage of the recipe, or all. The recipe cpu has joint, joint-2, mask, gender, age-male and age-female; --dry-run
    lists those of yours.

    The first call gives the data and makes the folds; later calls use the same.

    Under torchrun, all its processes train each fit together: see docs/scale.md.

    \b
    Example:
      python cli.py fit-stage mask --data DATA --recipe cpu --set stages.mask.epochs=2
    """
    from facecade import pipeline
    from facecade.base.machine import Machine
    from facecade.recipe_file import require_folds
    from facecade.report.tracking import open_tracker
    from facecade.runs.begin import DataOptions
    from facecade.runs.describe import next_step
    from facecade.runs.prepare import prepare_run
    from facecade.runs.run import open_run
    from facecade.training.ranks import joined

    ranks = click.get_current_context().with_resource(joined())
    if not ranks.main:
        from facecade.stages.executors.together import fit_with_main
        from facecade.training.distributed import ProcessGroup

        assert isinstance(ranks, ProcessGroup)
        fit_with_main(ranks)
        return
    machine = Machine(
        device,
        jobs,
        threads,
        workers,
        compile=compiled,
        autocast=autocast,
        executor=executor,
        executor_options=executor_options,
        local_disk=local_disk,
        stored_crops=stored_crops,
    )
    if ranks.count > 1:
        from facecade.stages.executors.together import require_together

        require_together(machine)
    tracker = open_tracker(mlflow, wandb, artifacts)
    data_options = DataOptions(corrections, pseudo, extra, skip_bad, same_person, reading)
    run, names = prepare_run(artifacts, data, data_options, recipe, stages, settings, weights, workers, dry_run)
    require_folds(folds, len(run.recipe.fits))
    numbers = folds or run.recipe.fits
    if dry_run:
        _print_plan(run, names, numbers, resume, as_json)
        return
    records = pipeline.fit_stage(run, names, numbers, machine, resume or ranks.restarted, tracker, ranks)
    if as_json:
        click.echo(json.dumps([record.json_value() for record in records], indent=2))
    else:
        click.echo(sentences("\n".join(_stage_line(stage, records) for stage in names)))
    say_next(next_step(open_run(artifacts)))


def _print_plan(run: Run, stages: list[str], folds: Sequence[int], resume: bool, as_json: bool) -> None:
    """Print the fits that would run and, as JSON, the settings of their stages."""
    from facecade.runs.fits import make_fit, plan
    from facecade.runs.fitting import require_labels

    planned = plan(run, stages, folds, resume)
    require_labels(run, [make_fit(run, *key) for key in planned])
    fits = [
        {"stage": stage, "fold": fold, "name": run.recipe.fit_name(fold), "state": run.state(stage, fold)}
        for stage, fold in planned
    ]
    settings = {stage: run.recipe.stages[stage].model_dump() for stage in stages}
    text = "\n".join(f"would fit {fit['stage']} {fit['name']} (now {fit['state']})" for fit in fits)
    click.echo(json.dumps({"plan": fits, "stages": settings}, indent=2) if as_json else text)


def _stage_line(stage: str, records: Sequence[FitRecord]) -> str:
    """A stage's scores on held-out people: the mean and the range over the fitted folds."""
    scores = [record.score for record in records if record.stage == stage]
    parts = []
    for name in dict.fromkeys(name for score in scores for name in score):
        values = [score[name] for score in scores if name in score]
        parts.append(f"{name} {fmean(values):.4f} (folds {min(values):.4f} to {max(values):.4f})")
    return f"{stage}: {', '.join(parts)} on held-out people" if parts else f"{stage}: fitted; nobody is held out"
