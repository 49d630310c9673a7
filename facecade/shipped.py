"""Recipes and other files that come with the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import facecade
from facecade.base.errors import unknown_name

Kind = Literal["recipe", "budget", "space", "corrections"]

PLACES: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "recipe": ("recipes", ("*.toml", "published/*.toml")),
    "budget": ("recipes/budgets", ("*.toml",)),
    "space": ("recipes/spaces", ("*.toml",)),
    "corrections": ("recipes/corrections", ("*.csv",)),
}
"""For each kind its folder in the package, and its files there."""


def find(kind: Kind, given: str) -> Path:
    """The file that is meant: a path as it is, or a name, as `quick` or `published/b7-focal`.

    Raises:
        FacecadeError: no file, and no such name; the nearest one is named.
    """
    path, (_, patterns) = Path(given), PLACES[kind]
    if path.is_file() or path.suffix == Path(patterns[0]).suffix:
        return path  # whoever reads it says what is wrong with it
    known = names(kind)
    if given not in known:
        raise unknown_name(kind, given, known)
    return known[given]


def names(kind: Kind) -> dict[str, Path]:
    """Everything of a kind that comes with the package: name → file."""
    place, patterns = PLACES[kind]
    folders = [Path(root) / place for root in facecade.__path__]  # of a clone, the folder above too
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in reversed(folders)
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
    }
