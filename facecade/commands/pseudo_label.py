"""`pseudo-label`: label images that another run then trains on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next


@click.command("pseudo-label", cls=Command)
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Minimum probability of a label that is kept.",
)
@options.ARTIFACTS
@options.ENGINE
@options.DEVICE
@options.WORKERS
@options.JSON
def command(
    data: Path, confidence: float, artifacts: Path, engine: str, device: str, workers: int, as_json: bool
) -> None:
    """Label images that another run then trains on.

    Prints how often such labels are correct on held-out people.
    Each fold of the other run gets labels from models that were not trained on the people it is scored on. The other
    run must have the same data, folds and seed.

    \b
    Example:
      python cli.py pseudo-label DATA --confidence 0.9
      python cli.py fit-stage all --data DATA --pseudo artifacts --artifacts student
    """
    from facecade.base.lock import locked
    from facecade.base.machine import Machine
    from facecade.faces.pseudo import FOLDER
    from facecade.inference.pseudo_label import pseudo_label
    from facecade.runs.run import open_run

    run, machine = open_run(artifacts), Machine(device, workers=workers, engine=engine)
    with locked(run.folder / FOLDER):
        record = pseudo_label(run, data, confidence, machine)
    file = artifacts / FOLDER / "labels.csv"
    if as_json:
        click.echo(json.dumps({**record.json_value(), "labels_file": str(file)}, indent=2))
    else:
        click.echo(f"{record.text}.")
        click.echo(file)
    data_words = f"--data {shlex.quote(str(run.root))} --pseudo {shlex.quote(str(artifacts))}"
    say_next(command_line(f"fit-stage all {data_words} --artifacts STUDENT"))
