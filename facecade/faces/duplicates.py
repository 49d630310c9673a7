"""Duplicates and near-duplicates: perceptual hashes of images, compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from facecade.base.progress import Bar
from facecade.base.threads import bounded_map

HASH_BITS = 256
"""Bits of a hash. 64 are too few for faces, which resemble each other: in the sample below 196 pairs of different
people differed in at most 6 of 64 bits, a limit at which copies begin to be missed."""

NEAR_DUPLICATE_BITS = 40
"""Near-duplicates differ in at most so many bits. Measured on 11,200 real images of 1,600 people, known to be unique:
of 63 million pairs of different people the closest differed in 50 bits, 18 in at most 56, 288 in at most 64: sixteen
times as many with every 8 bits. Of copies saved again, resized, mirrored, made brighter by 30 % or cropped by 2 %, 99
in 100 differed in at most 34; of those cropped by 3 %, 94. A copy that is cropped by more, or rotated, differs as much
as an image of another person and is not found. The whole image is hashed: a face's box moves a little with every
change, and the hash of the face crop missed half of such copies."""

UNRELATED_BITS = HASH_BITS // 2
"""Unrelated images differ in about so many bits; pairs that differ in as many are not kept."""

ALIKE_BITS, ALIKE_SHARE = 64, 0.05
"""Images of different people resemble each other in general (drawings, one scene), and near-duplicates mean nothing, where
among the pairs of people without near-duplicates a larger share than this has images that differ in at most so many bits. In the
sample above it is 1 pair of people in 4,000; of drawn people at least 1 in 5."""

ALIKE_PEOPLE, ALIKE_IMAGES = 200, 10
"""People, and images of each, from which that share is estimated: the first ones."""

PAIRS_PER_BLOCK = 500_000
"""Pairs that each thread compares at once: they fit into a core's cache, whatever the number of images."""

_PIXELS = 64
_WORDS = HASH_BITS // 64


def perceptual_hashes(image: np.ndarray) -> np.ndarray:
    """Perceptual hashes of an image (uint8 (h, w, 3), RGB) and of its mirror image, uint64 (2, 4).

    A bit says whether one of the 16 × 16 lowest frequencies of the luma (DCT of 64 × 64 pixels) is above their median
    (pHash: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; as in ImageHash).
    """
    import imagehash  # not needed where images are only predicted

    gray = Image.fromarray(image).convert("L")
    # The gap makes 12 megapixels ten times as fast; it changes at most 4 bits, and none of images up to 256 pixels a side.
    luma = gray.resize((_PIXELS, _PIXELS), Image.Resampling.LANCZOS, reducing_gap=3.0)
    both = (luma, luma.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    bits = [imagehash.phash(version, hash_size=16).hash.ravel() for version in both]
    return np.packbits(bits, axis=1).view(np.uint64)


@dataclass(frozen=True)
class Pair:
    """Two images, by their indices, and the number of bits in which they differ."""

    first: int
    second: int
    bits: int


@dataclass(frozen=True)
class NearDuplicates:
    """Near-duplicates among images.

    within, across: number of pairs for each number of different bits, int64 (257,), of one person and of two; pairs
    with an unknown person count as across. closest: the closest pairs of two persons, in order. near: whether an image
    is a near-duplicate of another person's, bool (N,).
    """

    within: np.ndarray
    across: np.ndarray
    closest: Sequence[Pair]
    near: np.ndarray


def find_near_duplicates(
    hashes: np.ndarray, person: np.ndarray, workers: int = 1, keep: int = 2000, limit: int = UNRELATED_BITS
) -> NearDuplicates:
    """Compare every image with every other, and with its mirror image.

    All pairs are compared in blocks, about 30 million a second on a core; memory does not grow with their number.

    Args:
        hashes: uint64 (N, 2, 4), as returned by `perceptual_hashes`.
        person: int (N,), the person of each image; -1 if unknown.
        keep: pairs kept as `closest`. limit: pairs that differ in as many bits are not kept.
    """
    count = len(hashes)
    rows = max(1, min(512, PAIRS_PER_BLOCK // max(count, 1)))
    totals, near, kept = np.zeros((2, HASH_BITS + 2), np.int64), np.zeros(count, bool), np.empty((0, 3), np.int64)

    def compare_block(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        end = min(start + rows, count)
        bits = _distances(hashes[start:end], hashes[start:])
        bits[np.tril_indices(end - start, m=count - start)] = HASH_BITS + 1  # each pair once, and no image with itself
        other = (person[start:end, None] != person[start:]) | (person[start:end, None] < 0)
        bins = (bits + other * np.uint16(HASH_BITS + 2)).ravel()
        counts = np.bincount(bins, minlength=2 * (HASH_BITS + 2)).reshape(2, -1)
        is_near = np.zeros(count, bool)
        if counts[1, : NEAR_DUPLICATE_BITS + 1].any():
            near_pairs = other & (bits <= NEAR_DUPLICATE_BITS)
            is_near[start:] = near_pairs.any(0)
            is_near[start:end] |= near_pairs.any(1)
        index = np.flatnonzero(other & (bits < limit))
        first, second = np.divmod(index, count - start)
        pairs = np.column_stack([first + start, second + start, bits.ravel()[index]]).astype(np.int64)
        return counts, is_near, _closest(pairs, keep)

    with Bar("compare", count, "images") as bar:
        for counts, is_near, pairs in bounded_map(compare_block, range(0, count, rows), workers, ahead=2 * workers):
            totals += counts
            near |= is_near
            kept = _closest(np.concatenate([kept, pairs]), keep)
            if len(kept) == keep:  # a later pair as far as the last one kept would not replace it
                limit = int(kept[-1, 2])
            bar.advance(min(rows, count - bar.done))
    return NearDuplicates(
        totals[0, : HASH_BITS + 1], totals[1, : HASH_BITS + 1], [Pair(*pair) for pair in kept.tolist()], near
    )


def near_duplicates_of(hashes: np.ndarray, others: np.ndarray, workers: int = 1) -> np.ndarray:
    """Whether each of N images is a near-duplicate of one of M others, bool (N,).

    Args:
        hashes, others: uint64 (N, 2, 4) and (M, 2, 4), as returned by `perceptual_hashes`.
    """
    rows = max(1, PAIRS_PER_BLOCK // max(len(others), 1))

    def compare_block(start: int) -> np.ndarray:
        bits = _distances(hashes[start : start + rows], others)
        return np.asarray((bits <= NEAR_DUPLICATE_BITS).any(1))

    blocks = []
    with Bar("compare", len(hashes), "images") as bar:
        for block in bounded_map(compare_block, range(0, len(hashes), rows), workers):
            blocks.append(block)
            bar.advance(len(block))
    return np.concatenate([np.zeros(0, bool), *blocks])


def look_alike(hashes: np.ndarray, person: np.ndarray) -> bool:
    """Whether images of different people resemble each other so much that near-duplicates mean nothing (ALIKE_BITS).

    Args:
        hashes: uint64 (N, 2, 4). person: int (N,), the person of each image, 0..P-1.
    """
    rank = pd.Series(person).groupby(person).cumcount().to_numpy()
    rows = np.flatnonzero((person < ALIKE_PEOPLE) & (rank < ALIKE_IMAGES))
    people = int(person[rows].max(initial=-1)) + 1
    closest = np.full((people, people), HASH_BITS)
    for row in rows:
        np.minimum.at(closest[person[row]], person[rows], _distances(hashes[row : row + 1], hashes[rows])[0])
    bits = closest[np.triu_indices(people, 1)]
    bits = bits[bits > NEAR_DUPLICATE_BITS]
    return bool(len(bits)) and float((bits <= ALIKE_BITS).mean()) > ALIKE_SHARE


def _distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Bits in which hashes (n, 2, 4) and (m, 2, 4) differ, plain or mirrored, whichever is fewer, uint16 (n, m)."""
    bits = np.zeros((2, len(some), len(others)), np.uint16)
    for mirrored in range(2):
        for word in range(_WORDS):
            bits[mirrored] += np.bitwise_count(some[:, mirrored, word, None] ^ others[None, :, 0, word])
    return bits.min(0)


def _closest(pairs: np.ndarray, keep: int) -> np.ndarray:
    """The `keep` pairs of (n, 3) that differ least, sorted by difference and then by index."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], pairs[:, 2]))
    return pairs[order[:keep]]


@dataclass(frozen=True)
class ExactDuplicates:
    """Groups of files with equal bytes, each as indices: of one person, and of several or unknown persons."""

    within: Sequence[np.ndarray]
    across: Sequence[np.ndarray]


def find_exact_duplicates(content: np.ndarray, person: np.ndarray) -> ExactDuplicates:
    """Find files with equal content.

    Args:
        content: (N,), a hash of each file. person: int (N,), as in `find_near_duplicates`.
    """
    _, group, size = np.unique(content, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    groups = [part for part in np.split(order, np.cumsum(size)[:-1]) if len(part) > 1]
    is_across = [bool((person[part] < 0).any()) or len(np.unique(person[part])) > 1 for part in groups]
    within, across = ([part for part, value in zip(groups, is_across) if value == side] for side in (False, True))
    return ExactDuplicates(within, across)
