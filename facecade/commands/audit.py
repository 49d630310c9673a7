"""`audit`: rank the people and images whose label is probably wrong."""

from __future__ import annotations

import json
import shlex
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
    help="Maximum number of findings shown with their images.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Minimum probability of a label error for a row in corrections.csv.",
)
@options.ARTIFACTS
@options.MOVED_DATA
@options.OUTPUT
@options.WORKERS
@options.JSON
def command(
    most: int, confidence: float, artifacts: Path, data: Path | None, output: Path, workers: int, as_json: bool
) -> None:
    """Rank the people and images whose label is probably wrong.

    Uses out-of-fold predictions and gives a reason in words. Writes audit.html with thumbnails, audit.csv with all
    findings, and corrections.csv, which `fit-stage --corrections` reads after a person has reviewed it.

    \b
    Example:
      python cli.py audit --output output
    """
    from dataclasses import asdict

    from facecade.base.lock import locked
    from facecade.pages.audit import write_audit
    from facecade.runs.run import open_run, with_images_in

    run = with_images_in(open_run(artifacts), data)
    with locked(output):
        findings, files = write_audit(run, output, most, confidence, workers)
    if as_json:
        click.echo(
            json.dumps(
                {"findings": [asdict(finding) for finding in findings], "files": list(map(str, files))}, indent=2
            )
        )
        return
    rows = [
        [
            str(rank),
            finding.kind,
            finding.id,
            finding.recorded,
            finding.suggested,
            f"{finding.score:.2f}",
            finding.reason,
        ]
        for rank, finding in enumerate(findings[:20], 1)
    ]
    click.echo(columns(rows, ["", "kind", "id", "recorded", "suggested", "error", "reason"]))
    click.echo("\n".join(map(str, files)))
    correction_files = [run.corrections_file] * bool(run.corrections) + [files[-1]]
    same_person = f" --same-person {run.same_person_file}" if run.same_person else ""
    given = "".join(f" --corrections {file}" for file in correction_files)
    reading = "".join(f" {shlex.quote(word)}" for word in run.reading)
    fit_again = f"fit-stage all --data {run.root}{reading}{same_person}{given}"
    click.echo(f"Next: review {files[-1]}, then {run.command(fit_again)}")
