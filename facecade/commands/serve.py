"""`serve`: serve a local web page that predicts images, and an HTTP API."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from facecade import __version__
from facecade.commands import options
from facecade.commands.command import Command


@click.command("serve", cls=Command)
@options.CASCADE
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any address other than this machine's own lets others send images, without a login.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=64.0,
    show_default=True,
    help="Maximum file size that is accepted.",
)
@click.option(
    "--max-files",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Maximum number of images in one request.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Another name under which clients may call the server (may be repeated).  [default: names of the address]",
)
@click.option("--open/--no-open", "opened", default=False, help="Open the page in a browser.  [default: no-open]")
@options.ABSTAIN
@options.ENGINE
@options.DEVICE
def command(
    artifacts: Path | None,
    host: str,
    port: int,
    max_megabytes: float,
    max_files: int,
    allowed_hosts: tuple[str, ...],
    opened: bool,
    abstain: float | None,
    engine: str,
    device: str,
) -> None:
    """Serve a local web page that predicts images, and an HTTP API.

    Drop or paste images on the page, or use the camera. It shows the faces found, the predictions, the ages, the least
    confident stage and the attention maps; for several images a table, and a CSV to download. POST /predict is the API,
    described by /openapi.json. Ctrl-C stops the server.
    --artifacts may also be a folder written by `export`, which has no attention maps. Without a run of yours the released cascade
    predicts.

    \b
    Example:
      python cli.py serve --port 7860
    """
    from facecade.base.machine import Machine
    from facecade.inference.released import cascade_folder
    from facecade.web.limits import Limits
    from facecade.web.serve import serve as run_server

    limits = Limits(max_megabytes, max_files)
    with suppress(KeyboardInterrupt):  # the server may have handled it already
        run_server(
            cascade_folder(artifacts),
            Machine(device, engine=engine),
            limits,
            host,
            port,
            opened,
            __version__,
            click.echo,
            allowed_hosts,
            abstain,
        )
    click.echo("stopped", err=True)
