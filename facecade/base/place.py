"""Where a file or folder is: a path, or a URL."""

from __future__ import annotations

import re
from pathlib import Path

Place = Path | str
"""A path, or a URL."""


def is_url(text: str) -> bool:
    """Whether text is a URL, of any scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def join(folder: Place, name: str) -> Place:
    """A file in a folder."""
    return folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name}"


def parent(place: Place) -> Place:
    """The folder of a file."""
    return place.parent if isinstance(place, Path) else place.rpartition("/")[0]
