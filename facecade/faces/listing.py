"""Which files of a folder are images, for every command; and the files that a table names, in whatever spelling."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from facecade.base.files import is_file

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif", ".heic", ".heif"),
    *(".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
)
"""Extensions of the formats that `faces.decode` reads, in lower case."""

SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
"""Folders, in lower case, that systems fill with thumbnails and deleted files. Others (`.ipynb_checkpoints`, `.Trash-1000`,
`.thumbnails`) are hidden."""


@dataclass(frozen=True)
class Listing:
    """Images of a folder and its subfolders: POSIX paths relative to it, sorted; and the number of files and folders that were
    passed over, by reason."""

    images: list[str]
    passed_over: dict[str, int]


def list_images(folder: Path) -> Listing:
    """The images of a folder at any depth, by their extension. Links to folders are followed, each folder once."""
    images: list[str] = []
    passed_over: Counter[str] = Counter()
    visited: set[tuple[int, int]] = set()

    def unreadable(_: OSError) -> None:
        passed_over["folder without permission"] += 1

    for where, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        status = Path(where).stat()
        if (status.st_dev, status.st_ino) in visited:
            passed_over["folder that is already listed"] += 1
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        reasons = {name: _folder_reason(name) for name in folders}
        passed_over.update(reason for reason in reasons.values() if reason)
        folders[:] = [name for name in folders if not reasons[name]]
        for name in files:
            if reason := file_reason(Path(where, name)):
                passed_over[reason] += 1
            else:
                images.append(Path(where, name).relative_to(folder).as_posix())
    return Listing(sorted(images), dict(sorted(passed_over.items())))


def file_reason(path: Path) -> str:
    """Why a file is passed over; empty if it is an image by its name."""
    if path.name.startswith("."):
        return "hidden file"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return f"{path.suffix.lower()[:10]} file" if path.suffix else "file without extension"
    return "" if is_file(path) else "pipe, device or broken link"


def passed_over_text(passed_over: dict[str, int]) -> str:
    """One line that counts what was passed over."""
    return "passed over: " + ", ".join(f"{count} × {reason}" for reason, count in passed_over.items())


def _folder_reason(name: str) -> str:
    if name.startswith("."):
        return "hidden folder"
    return "system folder" if name.lower() in SYSTEM_FOLDERS else ""


class NamedFiles:
    """Finds the files that a table names in a folder.

    A name that is no file is compared without regard to case, Unicode form and, if it has none, to
    the extension. It must be one file only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.respelled = 0
        """How many names were found in another spelling."""

    def find(self, name: str) -> str | None:
        """The path of a file relative to the folder; None if there is none, or if the name leads out of the folder."""
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts:
            return None
        if is_file(self.folder / name):
            return name
        found = self._by_key.get(_key(name)) or self._by_key.get(_key(name) + ".", [])
        self.respelled += len(found) == 1
        return found[0] if len(found) == 1 else None

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        """Images by their key, and by their key without extension, which ends in a dot."""
        by_key: dict[str, list[str]] = {}
        for path in list_images(self.folder).images:
            for key in (_key(path), _key(str(PurePosixPath(path).with_suffix(""))) + "."):
                by_key.setdefault(key, []).append(path)
        return by_key


def composed(name: str) -> str:
    """A name in the Unicode form of most systems; a Mac decomposes `é` and `김` in the names of files."""
    return unicodedata.normalize("NFC", name)


def _key(name: str) -> str:
    return composed(name).casefold()
