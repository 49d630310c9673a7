"""`infer`: predict labels for a data folder, a folder of images, or one image."""

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
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Predict also if more than a few images do not exist; they get the most frequent class.",
)
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
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Predict labels for a data folder, a folder of images, or one image.

    DATA is a folder with info.csv and images/, a folder of images, a manifest CSV, or an image.
    Writes submission.csv (ImageID,ans) and predictions.csv (targets, ages, probabilities, flags).
    --artifacts may also be a folder written by `export`, which needs no torch.

    \b
    Example:
      python cli.py infer eval/ --output output
    """
    from facecade import pipeline
    from facecade.base.machine import Machine

    machine = Machine(device, workers=workers, engine=engine, precision=precision)
    summary = pipeline.infer(artifacts, data, output, machine, ensemble, allow_missing)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    flags = ", ".join(f"{name} {count}" for name, count in summary["flags"].items()) or "none"
    if prediction := summary.get("prediction"):
        years = "" if prediction["age"] is None else f", {prediction['age']:.0f} years"
        click.echo(
            f"{prediction['ImageID']}: {prediction['mask']}, {prediction['gender']}, {prediction['band']}{years}; "
            f"class {prediction['ans']}, confidence {prediction['confidence']:.2f}"
        )
    click.echo(f"images: {summary['images']}; flagged: {flags}; {summary['seconds']:.0f} s by {summary['engine']}")
    click.echo(f"{summary['submission']}\n{summary['predictions']}")
