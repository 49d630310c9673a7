"""`draw`: generate a dataset of drawn faces with known labels, in the competition's layout."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next


@click.command("draw", cls=Command)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--people",
    type=click.IntRange(12),
    default=90,
    show_default=True,
    help="Number of people in the training set. The evaluation set has a third as many.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@options.JSON
def command(folder: Path, people: int, seed: int, as_json: bool) -> None:
    """Generate a dataset of drawn faces with known labels.

    Writes FOLDER/train and FOLDER/eval, in the competition's layout.

    \b
    Example:
      python cli.py draw demo/data --people 90
    """
    from facecade.base.lock import locked
    from facecade.faces.synthetic import draw_data

    with locked(folder):
        draw_data(folder, people, seed)
    folders = {part: str(folder / part) for part in ("train", "eval")}
    click.echo(json.dumps(folders, indent=2) if as_json else "\n".join(folders.values()))
    say_next(command_line(f"fit-stage all --data {shlex.quote(folders['train'])} --recipe demo"))
