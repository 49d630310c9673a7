"""`report`: write report.html, a self-contained page, MODEL_CARD.md, and figures as PNG."""

from __future__ import annotations

import json
from pathlib import Path

import click

from facecade.base.program import option
from facecade.commands import options
from facecade.commands.command import Command, say_next


@click.command("report", cls=Command)
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Result of evaluate for predictions of this run.  [default: evaluation.json in --output, if it exists]",
)
@options.ARTIFACTS
@options.MOVED_DATA
@options.OUTPUT
@options.OVERWRITE
@options.WORKERS
@options.MLFLOW
@options.WANDB
@options.JSON
def command(
    evaluation: Path | None,
    artifacts: Path,
    data: Path | None,
    output: Path,
    overwrite: bool,
    workers: int,
    mlflow: str | None,
    wandb: str | None,
    as_json: bool,
) -> None:
    """Write report.html, a self-contained page, MODEL_CARD.md, and figures as PNG.

    By nested predictions: scores, errors by class and by group, calibration and the worst errors; and learning curves.
    The figures: confusion_matrix.png, confusion_matrix_normalized.png, results.png (learning curves) and ages.png.

    \b
    Example:
      python cli.py report --output output
    """
    from facecade.base.lock import locked
    from facecade.base.origin import Claim
    from facecade.pages.report import tracked_report, write_report
    from facecade.records import read_combiner_record
    from facecade.report.evaluate import is_of_run
    from facecade.report.tracking import open_tracker
    from facecade.runs.fits import require_fitted
    from facecade.runs.run import open_run, with_images_in

    tracker = open_tracker(mlflow, wandb, output)
    run, default = with_images_in(open_run(artifacts), data), output / "evaluation.json"
    scored = evaluation or (default if default.exists() else None)
    if scored and not is_of_run(scored, read_combiner_record(require_fitted(run)).signature):
        scored = None
    with locked(output):
        claim = Claim(output, "report", ["report.html", "MODEL_CARD.md"], {"run": run.folder}, overwrite)
        files = write_report(run, output, scored, workers)
        claim.write()
    if tracker:
        tracker.log_run(tracked_report(run, scored, files))
    click.echo(json.dumps({"files": list(map(str, files))}) if as_json else "\n".join(map(str, files)))
    say_next(run.command("audit") + option("--output", output, "output"), run.command("serve"))
