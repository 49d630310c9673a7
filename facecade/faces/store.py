"""Cache of face crops: decoded once, stored as uint8, keyed by content hash, memory-mapped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from filelock import FileLock
from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter

from facecade.base.artifact import digest, writing
from facecade.base.errors import FacecadeError
from facecade.base.fields import Content
from facecade.base.files import is_file
from facecade.base.progress import Bar
from facecade.base.threads import bounded_map
from facecade.faces.boxes import ImageFile, crop_key
from facecade.faces.crop import Box, box_from_values
from facecade.faces.decode import DecodeError
from facecade.faces.duplicates import HASH_BITS, perceptual_hashes
from facecade.faces.reader import FaceReader
from facecade.recipe import Face

Hashes = Annotated[str, Field(pattern=f"^[0-9a-f]{{{HASH_BITS // 2}}}$")]
"""Hashes of an image and of its mirror image, HASH_BITS each, in hexadecimal digits."""

Values = list[FiniteFloat]

_LINE = TypeAdapter(
    tuple[Content, int, Values | None, Hashes] | tuple[Content, int, Values, Hashes, Values],
    config=ConfigDict(strict=True),
)
"""A line of the index: the values of an `Entry`; the last only if its box is given."""

MAX_LINE_BYTES = 4096

STORE_VERSION = 4
"""Increase when `crop` or `decode` returns other pixels than before, or a line holds more, so that old stores are not used."""


@dataclass(frozen=True)
class Entry:
    """The store's record of a file: content hash, row of its crop, the face box (None: center crop), the perceptual
    hashes of the whole image, and the box as it came with the data."""

    content: str
    row: int
    box: Box | None
    hashes: str
    given: Box | None = None

    @property
    def key(self) -> str:
        return crop_key(self.content, self.given)


def hashes_of(entries: Sequence[Entry]) -> np.ndarray:
    """The perceptual hashes of N entries, uint64 (N, 2, 4), as `duplicates.perceptual_hashes` returns them."""
    return np.frombuffer(bytes.fromhex("".join(entry.hashes for entry in entries)), np.uint64).reshape(-1, 2, 4)


class FaceStore:
    """An append-only file of crops with an index.

    A crop is written before its index line, so a killed run leaves at most one crop without a line, which the next run
    overwrites.
    """

    def __init__(self, folder: Path, face: Face) -> None:
        self.face = face
        self.folder = folder / f"crops-{digest([STORE_VERSION, face.model_dump()])}"
        self.pixels = self.folder / "crops.u8"
        self._index = self.folder / "index.jsonl"
        self._lock = FileLock(self.folder / ".lock")
        self._entries: dict[str, Entry] = {}
        self._index_position = 0
        self._reader = FaceReader(face, self._entries, hash_pixels=perceptual_hashes)

    def fill(self, images: Sequence[ImageFile], workers: int = 2, title: str = "faces") -> list[Entry | DecodeError]:
        """Add the crops that are missing.

        Returns:
            For each image, in order, its entry, or the error if it cannot be read.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with Bar(title, len(images), "images") as bar, self._lock:
            self._load()
            results: list[Entry | DecodeError] = []
            with (
                writing(self.folder),
                open(self.pixels, "r+b" if self.pixels.exists() else "w+b") as pixels,
                open(self._index, "ab") as index,
            ):
                for item in bounded_map(self._reader, images, workers):
                    if isinstance(item, Entry | DecodeError):
                        results.append(item)
                    elif (key := crop_key(item.content, item.given)) in self._entries:  # a copy, read at the same time
                        results.append(self._entries[key])
                    else:
                        assert item.hashes is not None, "the store's reader computes them"
                        hashes = item.hashes.tobytes().hex()
                        entry = Entry(item.content, len(self._entries), item.box, hashes, item.given)
                        pixels.seek(entry.row * item.crop.size)
                        pixels.write(item.crop.tobytes())
                        pixels.flush()
                        index.write(_line(entry))
                        index.flush()
                        self._entries[key] = entry
                        results.append(entry)
                    bar.advance()
            self._index_position = self._index.stat().st_size
        return results

    def rows_of(self, keys: Sequence[str]) -> np.ndarray:
        """The row of each crop, int64 (N,), without reading an image; -1 for those that are missing.

        Args:
            keys: of the crops, as `boxes.crop_key` gives them.
        """
        if self._index.exists():
            with self._lock:
                self._load()
        rows = {key: entry.row for key, entry in self._entries.items()}
        return np.array([rows.get(key, -1) for key in keys], np.int64)

    def crops(self) -> np.ndarray:
        """All crops, memory-mapped, uint8 (rows, height, width, 3), RGB."""
        if not self._entries:
            return np.empty(self.shape, np.uint8)
        return np.memmap(self.pixels, np.uint8, "r", shape=self.shape)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """A random sample of the crops, uint8 (N, height, width, 3); N is at most `count`. Creates no folder."""
        if self._index.exists():
            with self._lock:
                self._load()
        drawn = np.random.default_rng(seed).permutation(len(self._entries))[:count]
        return np.array(self.crops()[np.sort(drawn)])

    def face_found(self) -> np.ndarray:
        """Whether the detector found a face for each crop, bool (rows,)."""
        return np.array([entry.box is not None for entry in self._entries.values()], bool)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all crops: rows, height, width, 3."""
        return len(self._entries), *self.face.size, 3

    def _load(self) -> None:
        """Read the new lines of the index, and remove an incomplete last line; raises FacecadeError for a damaged one."""
        if not self._index.exists():
            return
        if not is_file(self._index):
            raise self._damaged(f"{self._index} is not a regular file")
        with open(self._index, "r+b") as file:
            file.seek(self._index_position)
            while line := file.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:  # cut by a kill
                    file.truncate(self._index_position)
                    break
                try:
                    content, row, values, hashes, *given = _LINE.validate_json(line)
                    box = box_from_values(values) if values else None
                    entry = Entry(content, row, box, hashes, box_from_values(given[0]) if given else None)
                except ValueError:
                    raise self._damaged(f"{self._index} is damaged in line {len(self._entries) + 1}") from None
                if row != len(self._entries) or entry.key in self._entries:
                    raise self._damaged(f"{self._index} is out of order")
                self._entries[entry.key] = entry
                self._index_position += len(line)
        if self._entries and not (is_file(self.pixels) and self.pixels.stat().st_size >= math.prod(self.shape)):
            raise self._damaged(f"{self.pixels} has fewer crops than {self._index}")

    def _damaged(self, message: str) -> FacecadeError:
        return FacecadeError(message, f"remove {self.folder}; it is only a cache")


def _line(entry: Entry) -> bytes:
    values = entry.box.values if entry.box else None
    given = [entry.given.values] if entry.given else []
    return (json.dumps([entry.content, entry.row, values, entry.hashes, *given]) + "\n").encode()
