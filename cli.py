#!/usr/bin/env python
"""The command line: the list of commands, --version and --debug. Each command is a file in facecade/commands/."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C before and after a command ends the process at once: Python would print a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import io
import sys

import click

from facecade import __version__
from facecade.commands.command import LazyGroup

COMMANDS = {
    "check": "facecade.commands.check",
    "eda": "facecade.commands.eda",
    "fit-stage": "facecade.commands.fit_stage",
    "fit-meta": "facecade.commands.fit_meta",
    "infer": "facecade.commands.infer",
    "explain": "facecade.commands.explain",
    "serve": "facecade.commands.serve",
    "evaluate": "facecade.commands.evaluate",
    "report": "facecade.commands.report",
    "audit": "facecade.commands.audit",
    "export": "facecade.commands.export",
    "compare": "facecade.commands.compare",
    "tune": "facecade.commands.tune",
    "pseudo-label": "facecade.commands.pseudo_label",
    "ls": "facecade.commands.ls",
    "draw": "facecade.commands.draw",
    "weights": "facecade.commands.weights",
}
"""The module of each command, in the order in which a new user needs them."""


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="facecade")
def main(debug: bool) -> None:
    """Train a cascade of face models, stack it, and predict labels for images.

    \b
    Example:
      python cli.py fit-stage all --data DATA
      python cli.py fit-meta
      python cli.py infer eval/
    """
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
