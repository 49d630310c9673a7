"""`weights`: convert pretrained weights, so that training can start from them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from facecade.commands import options
from facecade.commands.command import Command, say_next


@click.command("weights", cls=Command)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--as", "backbone", metavar="BACKBONE", help="Backbone that FILE belongs to, if its name does not show it."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="[default: weights/BACKBONE.safetensors]"
)
@click.option("--list", "listed", is_flag=True, help="List the available weights, installed or not.")
@options.JSON
def command(file: Path | None, backbone: str | None, output: Path | None, listed: bool, as_json: bool) -> None:
    """Convert pretrained weights for training, or list them.

    Writes FILE as safetensors, with its source, licence and input statistics as metadata. Weights that a package
    installs need no conversion: a recipe uses them with weights = "package".

    \b
    Example:
      python cli.py weights --list
      python cli.py weights faceres-deep.json
    """
    if listed == (file is not None):
        raise click.UsageError("give a FILE to convert, or --list")
    from facecade.backbones.weights import convert, list_weights

    if listed:
        entries = list_weights()
        click.echo(json.dumps(entries, indent=2) if as_json else _weights_text(entries))
        return
    assert file is not None
    pretrained, path = convert(file, backbone, output)
    if as_json:
        click.echo(
            json.dumps({"backbone": pretrained.backbone, "file": str(path), "licence": pretrained.licence}, indent=2)
        )
        return
    click.echo(f"{path}: {pretrained.backbone}, trained on {pretrained.trained_on}; licence: {pretrained.licence}")
    say_next(f'in a recipe, backbone = "{pretrained.backbone}" and weights = "{path}"')


def _weights_text(entries: list[dict[str, Any]]) -> str:
    """Each backbone with pretrained weights, in lines that fit a terminal."""
    lines = []
    for entry in entries:
        lines.append(f"{entry['backbone']}  {entry['state']}")
        usage = [f'weights = "{entry["start"]}"'] if entry["start"] else entry["steps"]
        details = [
            f"{entry['megabytes']:.0f} MB, {entry['size']}, trained on {entry['trained_on']}",
            f"licence: {entry['licence']}",
        ]
        for text in [*details, *usage]:
            lines += textwrap.wrap(
                text,
                76,
                break_long_words=False,
                break_on_hyphens=False,
                initial_indent=" " * 4,
                subsequent_indent=" " * 6,
            )
    return "\n".join(lines)
