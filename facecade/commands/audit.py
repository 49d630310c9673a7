"""`audit`: rank the people and images whose label is probably wrong."""

from __future__ import annotations

import json
from pathlib import Path

import click

from facecade.commands import options
from facecade.commands.command import Command
from facecade.report.text import columns


@click.command("audit", cls=Command)
@click.option(
    "--most",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="How many are shown with their images.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least probability of an error that is put down as a correction.",
)
@options.ARTIFACTS
@options.OUTPUT
@options.WORKERS
@options.JSON
def command(most: int, confidence: float, artifacts: Path, output: Path, workers: int, as_json: bool) -> None:
    """Rank the people and images whose label is probably wrong.

    By out-of-fold answers; with the reason in words. Writes audit.html with thumbnails, audit.csv with all of them, and
    corrections.csv, which `fit-stage --corrections` takes when a person has looked through it.

    \b
    Example:
      python cli.py audit --output output
    """
    from dataclasses import asdict

    from facecade.pages.audit import write_audit
    from facecade.runs.run import open_run

    run = open_run(artifacts)
    found, files = write_audit(run, output, most, confidence, workers)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in found], "files": list(map(str, files))}, indent=2))
        return
    rows = [
        [str(place), one.kind, one.id, one.recorded, one.suggested, f"{one.score:.2f}", one.reason]
        for place, one in enumerate(found[:20], 1)
    ]
    click.echo(columns(rows, ["", "kind", "id", "recorded", "suggested", "wrong", "why"]))
    click.echo("\n".join(map(str, files)))
    sheets = [run.corrections_file] * bool(run.corrections) + [files[-1]]
    again = " ".join([f"fit-stage all --data {run.root}", *(f"--corrections {sheet}" for sheet in sheets)])
    click.echo(f"Next: look through {files[-1]}, then {run.command(again)}")
