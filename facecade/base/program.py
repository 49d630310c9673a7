"""Command lines for hints: a facecade command, or the installation of an extra."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import facecade


def command(arguments: str) -> str:
    """The command line: `python cli.py …` in a clone, `facecade …` if the package is installed."""
    return f"{'python cli.py' if Path(sys.argv[0]).name == 'cli.py' else 'facecade'} {arguments}"


def option(name: str, path: Path, default: str) -> str:
    """An option of a command line, `--output DIR`; nothing where it is the default."""
    return "" if path == Path(default) else f" {name} {shlex.quote(str(path))}"


def install(extra: str) -> str:
    """The command that installs an extra, from the clone if there is one."""
    return f"pip install -e '.[{extra}]'" if clone_folder() else f"pip install 'facecade[{extra}]'"


def clone_folder() -> str:
    """The folder of the clone, which other processes need in PYTHONPATH to import this facecade; empty where it is installed."""
    in_clone = len(facecade.__path__) > 1  # facecade/__init__.py adds the folder above
    return str(Path(facecade.__file__).resolve().parents[1]) if in_clone else ""
