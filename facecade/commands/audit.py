"""`audit`: rank the people and images whose label is probably wrong."""

from __future__ import annotations

import json
import shlex
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecade import shipped
from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from facecade.combiner.audit import Finding
    from facecade.runs.run import Run


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
@options.OVERWRITE
@options.WORKERS
@options.JSON
def command(
    most: int,
    confidence: float,
    artifacts: Path,
    data: Path | None,
    output: Path,
    overwrite: bool,
    workers: int,
    as_json: bool,
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
    from facecade.base.origin import Claim
    from facecade.combiner.audit import PROBABLE, verdict
    from facecade.pages.audit import write_audit
    from facecade.runs.run import open_run, with_images_in

    run = with_images_in(open_run(artifacts), data)
    with locked(output):
        claim = Claim(output, "audit", ["audit.html", "audit.csv", "corrections.csv"], {"run": run.folder}, overwrite)
        findings, files = write_audit(run, output, most, confidence, workers)
        claim.write()
    if as_json:
        result = {"findings": [asdict(finding) for finding in findings], "files": list(map(str, files))}
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo("\n".join([verdict(findings), *_table(findings, min(PROBABLE, confidence)), *map(str, files)]))
    if any(finding.score >= confidence for finding in findings):
        say_next(f"review {files[-1]}, then {_fit_corrected(run, output, files[-1])}")


def _table(findings: Sequence[Finding], least: float) -> list[str]:
    """The first findings, as a table in a list; an empty list if none has the probability `least`."""
    rows = [
        [str(rank), each.kind, each.id, each.recorded, each.suggested, f"{each.score:.2f}", each.reason]
        for rank, each in enumerate(findings[:20], 1)
    ]
    if not findings or findings[0].score < least:
        return []
    return [columns(rows, ["", "kind", "id", "recorded", "suggested", "error", "reason"])]


def _fit_corrected(run: Run, output: Path, corrections: Path) -> str:
    """The command that fits the run's recipe to corrected labels, in a folder of its own: the run that was judged stays."""
    folders = (run.folder / ("corrected" if number == 1 else f"corrected-{number}") for number in count(1))
    folder = next(each for each in folders if not (each / "run.json").exists())
    files = [run.corrections_file] * bool(run.corrections) + [corrections]
    words = ["fit-stage", "all", "--data", str(run.root), *run.reading, "--recipe", _recipe(run, output)]
    words += ["--same-person", str(run.same_person_file)] if run.same_person else []
    words += [word for file in files for word in ("--corrections", str(file))]
    return command_line(shlex.join([*words, "--artifacts", str(folder)]))


def _recipe(run: Run, output: Path) -> str:
    """The run's recipe as `--recipe` takes it: the name of a shipped one, or a file that is written to `output`."""
    import tomli_w

    from facecade.base.artifact import write_text
    from facecade.recipe_file import read_toml

    for name, path in shipped.names("recipe").items():
        if read_toml(path) == run.tables:
            return name
    write_text(output / "recipe.toml", tomli_w.dumps(run.tables))
    return str(output / "recipe.toml")
