"""`export`: write the fitted cascade as ONNX, to a folder that `infer` runs without torch."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from facecade.base.choices import EnsembleKind
from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns


@click.command("export", cls=Command)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@options.ENSEMBLE
@click.option(
    "--half",
    is_flag=True,
    help="Store the networks' tensors as float16, if nearly all classes stay the same: half the size.",
)
@options.ARTIFACTS
@options.JSON
def command(folder: Path, ensemble: EnsembleKind | None, half: bool, artifacts: Path, as_json: bool) -> None:
    """Write the cascade as ONNX, to run it without torch.

    `infer --artifacts FOLDER` runs it. Writes the networks (with those of MTCNN), the combiner, a manifest, and a requirements.txt with the packages that
    infer needs.

    \b
    Example:
      python cli.py export cascade/
      python cli.py infer eval/ --artifacts cascade/ --engine onnx
    """
    from facecade.inference.loading import export
    from facecade.runs.run import open_run

    exported = export(open_run(artifacts), ensemble, folder, half=half)
    if as_json:
        click.echo(json.dumps(exported.manifest.json_value(), indent=2))
    else:
        rows = [
            [
                ", ".join(each.stages),
                "×".join(map(str, each.size)),
                str(len(each.files)),
                f"{max(each.off):.0e}",
            ]
            for each in exported.manifest.networks
        ]
        click.echo(columns(rows, ["stages", "input", "networks", "max difference to torch"]))
        if exported.manifest.half_agreement is not None:
            click.echo(f"float16 tensors: {exported.manifest.half_agreement:.2%} of the classes are those of float32")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        click.echo(f"{folder}: {size / 2**20:.0f} MB")
    say_next(command_line(f"infer DATA --artifacts {shlex.quote(str(folder))} --engine onnx"))
