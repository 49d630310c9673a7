"""Files shipped with the package (recipes, budgets, spaces, corrections), found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import facecade
from facecade.base.errors import unknown_name

Kind = Literal["recipe", "budget", "space", "corrections"]

FOLDERS_AND_PATTERNS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "recipe": ("recipes", ("*.toml", "published/*.toml")),
    "budget": ("recipes/budgets", ("*.toml",)),
    "space": ("recipes/spaces", ("*.toml",)),
    "corrections": ("recipes/corrections", ("*.csv",)),
}
"""For each kind: its folder in the package, and the patterns of its files."""


def find(kind: Kind, name_or_path: str) -> Path:
    """The file for a path, or for a name such as `quick` or `published/b7-focal`.

    Raises:
        FacecadeError: neither a file nor a known name; the hint suggests the closest names.
    """
    path, (_, patterns) = Path(name_or_path), FOLDERS_AND_PATTERNS[kind]
    if path.is_file() or path.suffix == Path(patterns[0]).suffix:
        return path  # the reader raises the error if it is unreadable
    known = names(kind)
    if name_or_path not in known:
        raise unknown_name(kind, name_or_path, known)
    return known[name_or_path]


def name_of(kind: Kind, path: Path) -> str:
    """How a command line names a file: a shipped one by its name, others by their path."""
    return next((name for name, file in names(kind).items() if file == path), str(path))


def names(kind: Kind) -> dict[str, Path]:
    """All shipped files of a kind: name → file."""
    subfolder, patterns = FOLDERS_AND_PATTERNS[kind]
    folders = [Path(root) / subfolder for root in facecade.__path__]  # in a clone also the folder above
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in reversed(folders)
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
    }
