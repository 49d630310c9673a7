"""`explain`: show the prediction for one image and what contributed to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from facecade.commands import options
from facecade.commands.command import Command


@click.command("explain", cls=Command)
@click.argument("image", type=click.Path(path_type=Path))
@options.CASCADE
@click.option(
    "--attention",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write each face crop to FOLDER, overlaid with the attention map of each stage; needs grad-cam.",
)
@options.ABSTAIN
@options.DEVICE
@options.JSON
def command(
    image: Path, artifacts: Path | None, attention: Path | None, abstain: float | None, device: str, as_json: bool
) -> None:
    """Show the prediction for one image and what contributed to it.

    For every face: the prediction, the outputs of each stage, the agreement of its networks, and the contributions.
    --artifacts may also be a folder written by `export`; --attention is then not available. Without a run of yours the released
    cascade predicts.

    \b
    Example:
      python cli.py explain eval/images/image.jpg --attention output/attention
    """
    from facecade.base.machine import Machine
    from facecade.inference.explain_image import explain
    from facecade.inference.released import cascade_folder

    result = explain(cascade_folder(artifacts), image, Machine(device), attention, abstain)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    from rich.console import Console

    from facecade.report.explanation_text import explanation_text

    console = Console(file=sys.stdout, highlight=False)
    for part in explanation_text(result, image.name):
        console.print(part)
    if attention:
        console.print(f"\n{len(result['pictures'])} pictures in {attention}", soft_wrap=True)
