"""What the user types: a command, or the installation of an extra."""

from __future__ import annotations

import sys
from pathlib import Path

import facecade


def command(words: str) -> str:
    """A command as its user would type it: `python cli.py …` in a clone, `facecade …` where the package is installed."""
    return f"{'python cli.py' if Path(sys.argv[0]).name == 'cli.py' else 'facecade'} {words}"


def install(extra: str) -> str:
    """How to install an extra: from the clone, where there is one."""
    clone = len(facecade.__path__) > 1
    return f"pip install -e '.[{extra}]'" if clone else f"pip install 'facecade[{extra}]'"
