"""`explain`: say what is answered for one image, and why."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from facecade.commands import options
from facecade.commands.command import Command


@click.command("explain", cls=Command)
@click.argument("image", type=click.Path(path_type=Path))
@options.ARTIFACTS
@click.option(
    "--attention",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write each face's crop there, with where each stage looked laid over it; needs grad-cam.",
)
@options.DEVICE
@options.JSON
def command(image: Path, artifacts: Path, attention: Path | None, device: str, as_json: bool) -> None:
    """Say what is answered for one image, and why.

    Of every face in it: the answer, what each stage says and how far its networks agree, and what contributed to it.
    --artifacts may also be what `export` wrote, without --attention.

    \b
    Example:
      python cli.py explain eval/images/image.jpg --attention output/attention
    """
    from facecade.base.machine import Machine
    from facecade.inference.explain_image import explain

    result = explain(artifacts, image, Machine(device), attention)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    from rich.console import Console

    from facecade.report.explanation_text import explained

    screen = Console(file=sys.stdout, highlight=False)
    for part in explained(result, image.name):
        screen.print(part)
    if attention:
        screen.print(f"\n{len(result['pictures'])} pictures in {attention}", soft_wrap=True)
