"""`infer`: predict labels for a data folder, a folder of images, one image, or a listing of millions."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click

from facecade.base.choices import EnsembleKind, FaceChoice
from facecade.base.program import command as command_line
from facecade.base.program import option
from facecade.commands import infer_listing, options
from facecade.commands.command import Command, say_next


@click.command("infer", cls=Command)
@click.argument("data", type=options.PlacePath(path_type=Path))
@options.CASCADE
@options.output(options.PlacePath, "Folder to write results to; of a listing also a URL, as s3://bucket/folder.")
@options.ENGINE
@options.PRECISION
@options.ENSEMBLE
@options.DEVICE
@options.WORKERS
@click.option(
    "--faces",
    type=click.Choice(get_args(FaceChoice)),
    default="largest",
    show_default=True,
    help="Which faces of an image are predicted. all: a row for each face, and no submission.csv.",
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Predict also if more than a few images do not exist.",
)
@options.ABSTAIN
@infer_listing.options
@options.OVERWRITE
@options.JSON
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: Path | str,
    artifacts: Path | None,
    output: Path | str,
    engine: str,
    precision: str,
    ensemble: EnsembleKind | None,
    device: str,
    workers: int,
    faces: FaceChoice,
    allow_missing: bool,
    abstain: float | None,
    overwrite: bool,
    as_json: bool,
    **of_listing: Any,
) -> None:
    """Predict labels for a data folder, a folder of images, one image, or a listing of millions.

    DATA is a folder with info.csv and images/, a folder of images, a manifest CSV, or an image; or a listing: CSV or Parquet with the
    columns id,uri. A listing is predicted in shards, each to a Parquet file: docs/scale-inference.md. DATA may be a URL, as
    s3://bucket/eval: a folder or an image is copied to this machine first.
    Writes predictions.csv (targets, ages, probabilities, flags, boxes); for an info.csv also submission.csv (ImageID,ans).
    One image is only printed, unless --output is given.
    --artifacts may also be a folder written by `export`, which needs no torch. Without a run of yours the released cascade predicts.
    `predict` is another name of this command.

    \b
    Example:
      python cli.py infer eval/ --output output
    """
    from facecade import pipeline
    from facecade.base.machine import Machine
    from facecade.faces.listing import IMAGE_SUFFIXES
    from facecade.faces.listing_table import is_listing
    from facecade.faces.remote import local_copy
    from facecade.inference.released import DEFAULT, cascade_folder
    from facecade.report.prediction_text import ROWS_SHOWN, summary_text
    from facecade.report.predictions import read_first
    from facecade.runs.run import is_run

    machine = Machine(device, workers=workers, engine=engine, precision=precision)
    if isinstance(data, str) and not data.lower().endswith((".csv", ".parquet")):
        data = local_copy(data)
    if isinstance(data, str) or is_listing(data):
        shared = {
            "ensemble": ensemble,
            "faces": faces,
            "abstain": abstain,
            "allow_missing": allow_missing,
            "overwrite": overwrite,
        }
        infer_listing.run(cascade_folder(artifacts), data, output, machine, {**shared, **of_listing}, as_json)
        return
    if only := [name for name in infer_listing.ONLY_LISTING if _is_given(ctx, name)]:
        words = ", ".join("--" + name.replace("_", "-") for name in only)
        raise click.UsageError(f"{words}: only for a listing, CSV or Parquet with the columns id,uri; {data} is none")
    if isinstance(output, str):
        raise click.UsageError(f"{output} is a URL, to which only the parts of a listing are written")
    given = _is_given(ctx, "output")
    with TemporaryDirectory() as scratch:
        folder = output if given or data.suffix.lower() not in IMAGE_SUFFIXES or data.is_dir() else Path(scratch)
        cascade = cascade_folder(artifacts)
        summary = pipeline.infer(cascade, data, folder, machine, ensemble, allow_missing, faces, overwrite, abstain)
        first = read_first(Path(summary["predictions"]), ROWS_SHOWN)
        if folder != output:
            del summary["predictions"]
    click.echo(json.dumps(summary, indent=2) if as_json else summary_text(summary, first))
    named = option("--artifacts", artifacts or DEFAULT, str(DEFAULT))
    if "submission" in summary:
        words = f"evaluate {shlex.quote(summary['submission'])} LABELS" + option("--output", output, "output")
        if is_run(cascade):  # an export has no report
            words += named
    else:
        words = "explain IMAGE" + named
    say_next(command_line(words))


def _is_given(ctx: click.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
