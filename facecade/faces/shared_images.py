"""Images that several people have: equal files, and near-duplicates. Such people may be one person under several ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facecade.base.errors import excerpt
from facecade.base.program import command
from facecade.faces.duplicates import HASH_BITS, NEAR_DUPLICATE_BITS, find_near_duplicates

MAX_PAIRS = 20
"""Pairs of people that a message lists."""

MAX_NEAR_PAIRS = 100_000
"""Pairs of near-duplicates that are kept, the closest first."""

LOOK_ALIKE = "images of different people look too much alike to find near-duplicates; only equal files are compared"
"""A note on data in which `duplicates.look_alike`."""


@dataclass(frozen=True)
class SharedImages:
    """Two people with an image in common.

    image, other_image: paths of the images that are closest. bits: in which their hashes differ; None for equal files.
    count: such pairs of images of the two people.
    """

    person: str
    other: str
    image: str
    other_image: str
    bits: int | None
    count: int

    def __str__(self) -> str:
        what = "equal files" if self.bits is None else f"near-duplicates ({self.bits} of {HASH_BITS} bits differ)"
        more = f" ({self.count} such pairs of the two people)" if self.count > 1 else ""
        return f"{_image_of(self.image, self.person)} and {_image_of(self.other_image, self.other)} are {what}{more}"


def shared_images(table: pd.DataFrame, hashes: np.ndarray | None, workers: int = 1) -> list[SharedImages]:
    """The pairs of people with an image in common, equal files first, then the closest.

    Args:
        table: sample table with `content`, N rows.
        hashes: uint64 (N, 2, 4), `duplicates.perceptual_hashes` of the images; None compares only the files' contents.
    """
    person = pd.factorize(table["person"])[0]
    pairs = _equal_pairs(table)
    if hashes is not None:
        distinct = np.flatnonzero(~table.duplicated("content").to_numpy())
        near = find_near_duplicates(
            hashes[distinct], person[distinct], workers, MAX_NEAR_PAIRS, limit=NEAR_DUPLICATE_BITS + 1
        )
        pairs += [(int(distinct[pair.first]), int(distinct[pair.second]), pair.bits) for pair in near.closest]
    by_people: dict[tuple[int, int], list[tuple[int, int, int | None]]] = {}
    for first, second, bits in pairs:
        first, second = sorted((first, second), key=lambda row: person[row])
        by_people.setdefault((person[first], person[second]), []).append((first, second, bits))
    names, paths = table["person"].to_numpy(), table["path"].to_numpy()
    return [
        SharedImages(names[first], names[second], paths[first], paths[second], bits, len(found))
        for found in by_people.values()
        for first, second, bits in found[:1]
    ]


def advice(written: Path | None = None) -> str:
    """What to do about people who share images; `written`: where `pairs_table` was written, if it was."""
    if written:
        return f"look at the images, write yes or no into {written}, and give it as --same-person"
    return (
        f"is it one person? {command('check DATA --write-pairs FILE')} lists them; write yes or no there and give it as"
        " --same-person FILE, or remove the copies"
    )


def equal_image_notes(table: pd.DataFrame) -> list[str]:
    """A line on equal files of one person, if there are any; they are no leak."""
    count = int(table.duplicated(["person", "content"], keep=False).sum())
    return [f"{count} images are equal to another of the same person"] if count else []


def pairs_table(shared: Sequence[SharedImages]) -> pd.DataFrame:
    """The pairs in the form of `same_person.read_same_person`: `same` is yes for equal files, and else to be filled in; the
    images are for those who do so."""
    rows = [
        (each.person, each.other, "yes" if each.bits is None else "", each.image, each.other_image, each.bits or 0)
        for each in shared
    ]
    return pd.DataFrame(rows, columns=["person", "other", "same", "image", "other_image", "bits"])


def _equal_pairs(table: pd.DataFrame) -> list[tuple[int, int, int | None]]:
    """Rows of equal files of two people: the first of each content with each of the others."""
    once = table.reset_index(drop=True).drop_duplicates(["person", "content"])
    once = once[once.duplicated("content", keep=False)]
    return [
        (int(rows[0]), int(row), None)
        for rows in once.groupby("content", sort=False).groups.values()
        for row in rows[1:]
    ]


def _image_of(path: str, person: str) -> str:
    return f"{excerpt(path, 60)} of '{excerpt(person, 30)}'"
