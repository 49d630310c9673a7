"""`check`: count the images, people and classes of a dataset; list every bad row and file with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from facecade.commands import options
from facecade.commands.command import Command
from facecade.report.text import columns


@click.command("check", cls=Command)
@click.argument("data", type=click.Path(path_type=Path))
@options.SAME_PERSON
@click.option(
    "--write-pairs",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the people who share images to a new CSV, to be completed for --same-person.",
)
@options.JSON
@options.WORKERS
def command(data: Path, same_person: tuple[Path, ...], write_pairs: Path | None, as_json: bool, workers: int) -> None:
    """Count the images, people and classes of a dataset; list every bad row and file with its reason.

    DATA is a folder with train.csv or info.csv and images/, a manifest CSV, a folder of images
    or one image. Exits with 1 if anything is bad. People who share images, as equal files or near-duplicates, are bad too:
    they may be one person under two ids.

    \b
    Example:
      python cli.py check ../shared/data/faces/train
    """
    from facecade.faces.shared_images import advice
    from facecade.report.check import check_source

    result = check_source(data, workers, same_person, write_pairs)
    click.echo(json.dumps(result, indent=2) if as_json else _check_text(result))
    if result["pairs"]:
        click.echo(f"Next: {advice(write_pairs)}", err=True)
    if result["problems"]:
        raise click.exceptions.Exit(1)


def _check_text(result: dict[str, Any]) -> str:
    lines = [f"{result['layout']}: {result['images']} images of {result['people']} people"]
    if result["classes"]:
        rows = [[str(c["class"]), c["name"], str(c["images"]), str(c["people"])] for c in result["classes"]]
        lines += ["", columns(rows, ["class", "meaning", "images", "people"]), ""]
    lines += [f"note: {text}" for text in result["notes"]]
    lines += [f"bad: {text}" for text in result["problems"]]
    lines.append(f"{len(result['problems'])} problem(s)" if result["problems"] else "no problems")
    return "\n".join(lines)
