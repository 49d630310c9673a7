"""`infer`: predict labels for a data folder, a folder of images, or one image."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from facecade.base.choices import EnsembleKind
from facecade.base.program import command as command_line
from facecade.base.program import option
from facecade.commands import options
from facecade.commands.command import Command, say_next


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
    else:
        click.echo(_summary_text(summary))
    if (data / "info.csv").exists():
        words = f"evaluate {shlex.quote(summary['submission'])} LABELS" + option("--output", output, "output")
        if (artifacts / "run.json").exists():  # an export has no report
            words += option("--artifacts", artifacts, "artifacts")
    else:
        words = "explain IMAGE" + option("--artifacts", artifacts, "artifacts")
    say_next(command_line(words))


def _summary_text(summary: dict[str, Any]) -> str:
    flags = ", ".join(f"{name} {count}" for name, count in summary["flags"].items()) or "none"
    lines = [
        f"images: {summary['images']}; flagged: {flags}; {summary['seconds']:.0f} s by {summary['engine']}",
        summary["submission"],
        summary["predictions"],
    ]
    if prediction := summary.get("prediction"):
        years = "" if prediction["age"] is None else f", {prediction['age']:.0f} years"
        lines.insert(
            0,
            f"{prediction['ImageID']}: {prediction['mask']}, {prediction['gender']}, {prediction['band']}{years}; "
            f"class {prediction['ans']}, confidence {prediction['confidence']:.2f}",
        )
    return "\n".join(lines)
