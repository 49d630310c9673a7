"""`eda`: write eda.html, a page that describes a dataset before training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecade import shipped
from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next

if TYPE_CHECKING:
    from facecade.faces.reading import Reading


@click.command("eda", cls=Command)
@click.argument("data", type=options.DataPath())
@click.option(
    "--recipe",
    type=options.Shipped("recipe"),
    default="cpu",
    show_default=True,
    help="Recipe whose settings are used to detect faces.",
)
@options.reading
@options.OUTPUT
@options.OVERWRITE
@options.WORKERS
@options.JSON
def command(
    data: Path,
    recipe: Path,
    reading: Reading,
    output: Path,
    overwrite: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Write eda.html, a page that describes a dataset.

    It shows class balance, ages and censoring, image sizes, brightness and blur, faces found and missed, duplicates
    within a person and across people, and every bad row and file. DATA is anything that check accepts. Without labels,
    the sections that need them are left out.

    \b
    Example:
      python cli.py eda DATA --output output
    """
    from facecade.base.lock import locked
    from facecade.base.origin import Claim
    from facecade.pages.eda import write_eda
    from facecade.recipe_file import parse, read_toml

    face = parse(read_toml(recipe), str(recipe)).face
    with locked(output):
        claim = Claim(output, "eda page", ["eda.html"], {"data": data}, overwrite)
        result = write_eda(data, output, face, workers, reading)
        claim.write()
    click.echo(json.dumps(result, indent=2) if as_json else _eda_text(result))
    name = shipped.name_of("recipe", recipe)
    chosen = "" if name == "cpu" else f" --recipe {shlex.quote(name)}"
    if result["problems"]:
        say_next(command_line(shlex.join(["check", str(data), *reading.options])))
    elif result["classes"]:
        say_next(command_line(f"fit-stage all {options.data_words(data, reading)}{chosen}"))
    else:
        say_next(command_line(f"infer {shlex.quote(str(data))}"))


LOOK_ALIKE = "all images look alike, so that none can be called a copy of another"
"""As of drawings, or of one pose before one background."""


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _eda_text(result: dict[str, Any]) -> str:
    """A summary of the dataset in a few lines, then the path of the page."""
    duplicates, ages, faces = result["duplicates"], result["ages"], result["faces"]
    scope = "across people" if duplicates["people_known"] else "among images"
    people = f" of {result['people']} people" if result["people"] else ""
    lines = [f"{result['layout']}: {result['images']} images{people}; {result['readable']} readable"]
    if classes := sorted(result["classes"], key=lambda each: int(each["images"])):
        rarest, largest = classes[0], classes[-1]
        lines.append(
            f"classes: from {rarest['images']} images ({rarest['name']}) to {largest['images']} ({largest['name']})"
        )
    if ages:
        cap, at_highest = ages["censored_at"], _count(ages["at_highest"], "person", "people")
        text = f"ages: {ages['lowest']:.0f} to {ages['highest']:.0f} years, of {_count(ages['people'], 'person', 'people')}"
        lines.append(
            text if cap is None else f"{text}; {at_highest} of {cap:.0f} stand for everybody of {cap:.0f} and over"
        )
    sizes = [f"{size}: {count}" for size, count in result["sizes"].items()]
    lines.append(f"sizes: {', '.join(sizes[:3])}{f', {len(sizes) - 3} more' if len(sizes) > 3 else ''}")
    if faces:
        lines.append(f"faces: none found in {faces['none']} images, several in {faces['several']}")
    equal = _count(duplicates["same_files_across"], "equal file", "equal files")
    if duplicates["look_alike"]:
        lines.append(f"duplicates {scope}: {equal}; {LOOK_ALIKE}")
    else:
        near = _count(duplicates["near_pairs_across"], "pair", "pairs")
        lines.append(f"duplicates {scope}: {equal}; {near} of nearly equal images")
    problems = len(result["problems"])
    lines.append(f"{problems} problem(s), listed on the page" if problems else "no problems")
    return "\n".join([*lines, *result["files"]])
