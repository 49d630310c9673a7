"""`serve`: open a local page to drop, paste or shoot images on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from facecade import __version__
from facecade.commands import options
from facecade.commands.command import Command


@click.command("serve", cls=Command)
@options.ARTIFACTS
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any but this machine's own lets others send images; nothing asks who they are.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Largest file that is taken.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 100_000_000),
    default=50_000_000,
    show_default=True,
    help="Largest image that is unpacked.",
)
@click.option(
    "--max-files", type=click.IntRange(1), default=32, show_default=True, help="Images that are taken at once."
)
@click.option("--open/--no-open", "opened", default=False, help="Open the page in a browser.  [default: no-open]")
@options.ENGINE
@options.DEVICE
def command(
    artifacts: Path,
    host: str,
    port: int,
    max_megabytes: float,
    max_pixels: int,
    max_files: int,
    opened: bool,
    engine: str,
    device: str,
) -> None:
    """Open a local page to drop, paste or shoot images on.

    It shows the faces found, the answers, the ages, which stage was unsure and where each looked; of several images a
    table, and a CSV to download. POST /predict answers programs, as /openapi.json describes; Ctrl-C ends it.
    --artifacts may also be what `export` wrote, which shows no attention.

    \b
    Example:
      python cli.py serve --port 7860
    """
    from facecade.base.machine import Machine
    from facecade.web.limits import Limits
    from facecade.web.serve import serve as keep_up

    limits = Limits(max_megabytes, max_pixels, max_files)
    with suppress(KeyboardInterrupt):  # which the server may have heard already
        keep_up(artifacts, Machine(device, engine=engine), limits, host, port, opened, __version__, click.echo)
    click.echo("stopped", err=True)
