"""`eda`: write eda.html, which shows what DATA holds before anything is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from facecade.commands import options
from facecade.commands.command import Command


@click.command("eda", cls=Command)
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    type=options.Shipped("recipe"),
    default="cpu",
    show_default=True,
    help="Recipe whose faces are looked for.",
)
@options.OUTPUT
@options.WORKERS
@options.JSON
def command(data: Path, recipe: Path, output: Path, workers: int, as_json: bool) -> None:
    """Write eda.html, which shows what DATA holds before anything is trained on it.

    Class balance, ages and censoring, sizes, light and blur, faces found and missed, the same image twice or as
    somebody else's; and every bad row and file. DATA is whatever check takes; what needs labels is left out where there are none.

    \b
    Example:
      python cli.py eda ../shared/data/faces/train --output output
    """
    from facecade.pages.eda import write_eda
    from facecade.recipe_file import parse, read_toml

    face = parse(read_toml(recipe), str(recipe)).face
    result = write_eda(data, output, face, workers)
    click.echo(json.dumps(result, indent=2) if as_json else _eda_text(result))


def _eda_text(result: dict[str, Any]) -> str:
    """The summary of a data set in a few lines, and the page."""
    twice, ages, faces = result["duplicates"], result["ages"], result["faces"]
    apart = "across people" if twice["people_known"] else "among images"
    people = f" of {result['people']} people" if result["people"] else ""
    lines = [f"{result['layout']}: {result['images']} images{people}; {result['readable']} can be read"]
    if there := sorted(result["classes"], key=lambda each: int(each["images"])):
        few, many = there[0], there[-1]
        lines.append(f"classes: from {few['images']} images ({few['name']}) to {many['images']} ({many['name']})")
    if ages:
        cap = ages["censored_at"]
        said = "not censored" if cap is None else f"censored at {cap:.0f}: 'at least {cap:.0f}'"
        lines.append(
            f"ages: {ages['lowest']:.0f} to {ages['highest']:.0f}, {ages['at_highest']} of the highest; {said}"
        )
    sizes = [f"{size}: {count}" for size, count in result["sizes"].items()]
    lines.append(f"sizes: {', '.join(sizes[:3])}{f', {len(sizes) - 3} more' if len(sizes) > 3 else ''}")
    if faces:
        lines.append(f"faces: none found in {faces['none']} images, several in {faces['several']}")
    lines.append(
        f"alike {apart}: {twice['same_files_across']} images of the same bytes, {twice['near_pairs_across']} pairs nearly"
    )
    problems = len(result["problems"])
    lines.append(f"{problems} problem(s), listed on the page" if problems else "no problems")
    return "\n".join([*lines, *result["files"]])
