"""`report`: write report.html, which opens from disk, and MODEL_CARD.md."""

from __future__ import annotations

import json
from pathlib import Path

import click

from facecade.commands import options
from facecade.commands.command import Command


@click.command("report", cls=Command)
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What evaluate wrote of answers by this run.  [default: evaluation.json in --output, where it is]",
)
@options.ARTIFACTS
@options.OUTPUT
@options.WORKERS
@options.JSON
def command(evaluation: Path | None, artifacts: Path, output: Path, workers: int, as_json: bool) -> None:
    """Write report.html, which opens from disk, and MODEL_CARD.md.

    Where the cascade is right, where it fails and for whom, by nested answers; learning curves, calibration, and the worst errors.

    \b
    Example:
      python cli.py report --output output
    """
    from facecade.pages.report import write_report
    from facecade.runs.run import open_run

    beside = output / "evaluation.json"
    files = write_report(open_run(artifacts), output, evaluation or (beside if beside.exists() else None), workers)
    click.echo(json.dumps({"files": list(map(str, files))}) if as_json else "\n".join(map(str, files)))
