"""`infer`: label a data folder, a folder of images, or one file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from facecade.base.choices import EnsembleKind
from facecade.commands import options
from facecade.commands.command import Command


@click.command("infer", cls=Command)
@click.argument("data", type=click.Path(path_type=Path))
@options.ARTIFACTS
@options.OUTPUT
@options.ENGINE
@options.PRECISION
@options.ENSEMBLE
@options.DEVICE
@options.WORKERS
@options.JSON
def command(
    data: Path,
    artifacts: Path,
    output: Path,
    engine: str,
    precision: str,
    ensemble: EnsembleKind | None,
    device: str,
    workers: int,
    as_json: bool,
) -> None:
    """Label a data folder, a folder of images, or one file.

    DATA is a folder with info.csv and images/, a folder of images, a manifest CSV, or an image.
    Writes submission.csv (ImageID,ans) and predictions.csv (answers, ages, probabilities, flags).
    --artifacts may also be what `export` wrote, which needs no torch.

    \b
    Example:
      python cli.py infer eval/ --output output
    """
    from facecade import pipeline
    from facecade.base.machine import Machine

    machine = Machine(device, workers=workers, engine=engine, precision=precision)
    summary = pipeline.infer(artifacts, data, output, machine, ensemble)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    flags = ", ".join(f"{name} {count}" for name, count in summary["flags"].items()) or "none"
    if said := summary.get("prediction"):
        years = "" if said["age"] is None else f", {said['age']:.0f} years"
        click.echo(
            f"{said['ImageID']}: {said['mask']}, {said['gender']}, {said['band']}{years}; "
            f"class {said['ans']}, confidence {said['confidence']:.2f}"
        )
    click.echo(f"images: {summary['images']}; flagged: {flags}; {summary['seconds']:.0f} s by {summary['engine']}")
    click.echo(f"{summary['submission']}\n{summary['predictions']}")
