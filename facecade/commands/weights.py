"""`weights`: make pretrained weights of others ready to start from."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from facecade.commands import options
from facecade.commands.command import Command


@click.command("weights", cls=Command)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--as", "backbone", metavar="BACKBONE", help="Whose weights they are, where the file's name does not say it."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="[default: weights/BACKBONE.safetensors]"
)
@click.option("--list", "listed", is_flag=True, help="Say which weights are to be had, installed or not.")
@options.JSON
def command(file: Path | None, backbone: str | None, output: Path | None, listed: bool, as_json: bool) -> None:
    """Make pretrained weights of others ready to start from.

    Converts FILE once to safetensors, with its source, licence and the statistics of its input inside. Weights that a package
    installs need no conversion: a recipe takes them by weights = "package".

    \b
    Example:
      python cli.py weights --list
      python cli.py weights faceres-deep.json
    """
    if listed == (file is not None):
        raise click.UsageError("give a FILE to convert, or --list")
    from facecade.backbones.weights import convert, listing

    if listed:
        found = listing()
        click.echo(json.dumps(found, indent=2) if as_json else _weights_text(found))
        return
    assert file is not None
    pretrained, place = convert(file, backbone, output)
    if as_json:
        click.echo(
            json.dumps({"backbone": pretrained.backbone, "file": str(place), "licence": pretrained.licence}, indent=2)
        )
        return
    click.echo(f"{place}: {pretrained.backbone}, trained on {pretrained.trained_on}; licence: {pretrained.licence}")
    click.echo(f'Next: in a recipe, backbone = "{pretrained.backbone}" and weights = "{place}"')


def _weights_text(found: list[dict[str, Any]]) -> str:
    """Each backbone with pretrained weights, in lines that fit a terminal."""
    lines = []
    for each in found:
        lines.append(f"{each['backbone']}  {each['state']}")
        start = [f'weights = "{each["start"]}"'] if each["start"] else each["steps"]
        about = [
            f"{each['megabytes']:.0f} MB, {each['size']}, trained on {each['trained_on']}",
            f"licence: {each['licence']}",
        ]
        for text in [*about, *start]:
            lines += textwrap.wrap(
                text,
                76,
                break_long_words=False,
                break_on_hyphens=False,
                initial_indent=" " * 4,
                subsequent_indent=" " * 6,
            )
    return "\n".join(lines)
