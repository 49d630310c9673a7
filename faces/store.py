"""Face crops decoded once, kept as uint8 on disk, found by content, read by memory map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from base.artifact import digest
from base.errors import FacecadeError
from base.progress import Bar
from faces.crop import Box, Detector, crop, make_detector
from faces.decode import DecodeError, decode
from recipe import Face

GEOMETRY = 1
"""Raise when `crop` or `decode` starts to give other pixels, so that old stores are not read."""


@dataclass(frozen=True)
class Entry:
    """What the store knows of one file: its row, and the face's box (None: centre crop)."""

    content: str
    row: int
    box: Box | None


def content_hash(path: Path) -> str:
    """A fingerprint of a file's bytes."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


class FaceStore:
    """An append-only file of crops with an index of what lies where.

    A crop is written before its index line, so a run killed at any point leaves at worst a crop
    without a line, which the next run overwrites.
    """

    def __init__(self, folder: Path, face: Face) -> None:
        self.face = face
        self.folder = folder / f"crops-{digest([GEOMETRY, face.model_dump()])}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pixels = self.folder / "crops.u8"
        self._index = self.folder / "index.jsonl"
        self._lock = FileLock(self.folder / ".lock")
        self._entries: dict[str, Entry] = {}
        self._read_to = 0
        self._detector: Detector | None = None

    def fill(self, paths: Sequence[Path], workers: int = 2, title: str = "faces") -> list[Entry | DecodeError]:
        """Make sure that every readable photograph has its crop.

        Returns:
            For each path, in order, its entry, or why it cannot be read.
        """
        with Bar(title, len(paths), "photographs") as bar, self._lock, ThreadPoolExecutor(workers) as pool:
            self._load()
            found: list[Entry | DecodeError] = []
            with (
                open(self.pixels, "r+b" if self.pixels.exists() else "w+b") as pixels,
                open(self._index, "ab") as index,
            ):
                for item in _bounded_map(pool, self._prepare, paths, ahead=4 * workers):
                    if isinstance(item, tuple):  # new content, decoded and cut by a worker
                        content, box, image = item
                        if content not in self._entries:
                            entry = Entry(content, len(self._entries), box)
                            pixels.seek(entry.row * image.size)
                            pixels.write(image.tobytes())
                            pixels.flush()
                            index.write(_line(entry))
                            index.flush()
                            self._entries[content] = entry
                        item = self._entries[content]
                    found.append(item)
                    bar.advance()
            self._read_to = self._index.stat().st_size
        return found

    def crops(self) -> np.ndarray:
        """All crops, memory-mapped, uint8 (rows, height, width, 3), RGB."""
        if not self._entries:
            return np.empty(self.shape, np.uint8)
        return np.memmap(self.pixels, np.uint8, "r", shape=self.shape)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all crops: rows, height, width, 3."""
        return len(self._entries), *self.face.size, 3

    def _prepare(self, path: Path) -> Entry | DecodeError | tuple[str, Box | None, np.ndarray]:
        try:
            content = content_hash(path)
        except OSError:
            content = ""
        if content in self._entries:
            return self._entries[content]
        try:
            photograph = decode(path)
        except DecodeError as error:
            return error
        if self._detector is None:
            self._detector = make_detector(self.face)
        box = self._detector(photograph)
        return content, box, crop(photograph, box, self.face)

    def _load(self) -> None:
        """Read what the index gained since last time, and drop a last line that was cut short."""
        if not self._index.exists():
            return
        with open(self._index, "r+b") as file:
            file.seek(self._read_to)
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("cut short")
                    content, row, box = json.loads(line)
                    if row != len(self._entries):
                        raise FacecadeError(
                            f"{self._index} is out of order", f"remove {self.folder}; it is only a cache"
                        )
                    self._entries[content] = Entry(content, row, Box(*box) if box else None)
                except ValueError:
                    file.truncate(self._read_to)
                    break
                self._read_to += len(line)


def _line(entry: Entry) -> bytes:
    box = entry.box
    values = [box.left, box.top, box.right, box.bottom, box.probability] if box else None
    return (json.dumps([entry.content, entry.row, values]) + "\n").encode()


def _bounded_map(
    pool: ThreadPoolExecutor, call: Callable[[Path], Any], items: Sequence[Path], ahead: int
) -> Iterator[Any]:
    """`pool.map` that never has more than `ahead` results waiting: memory stays flat."""
    source = iter(items)
    waiting = [pool.submit(call, item) for item in islice(source, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(call, item) for item in islice(source, 1)]
