"""Duplicates and near-duplicates: perceptual hashes of images, compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
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

PAIRS_PER_BLOCK = 500_000
"""Pairs that each thread compares at once: they fit into a core's cache, whatever the number of images."""

_PIXELS = 64
_WORDS = HASH_BITS // 64


def perceptual_hashes(image: np.ndarray) -> np.ndarray:
    """Perceptual hashes of an image (uint8 (h, w, 3), RGB) and of its mirror image, uint64 (2, 4).

    A bit says whether one of the 16 × 16 lowest frequencies of the luma (DCT of 64 × 64 pixels) is above their median
    (pHash: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; as in ImageHash).
    """
    luma = Image.fromarray(image).convert("L").resize((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
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


def find_near_duplicates(hashes: np.ndarray, person: np.ndarray, workers: int = 1, keep: int = 2000) -> NearDuplicates:
    """Compare every image with every other, and with its mirror image.

    All pairs are compared in blocks, about 30 million a second on a core; memory does not grow with their number.

    Args:
        hashes: uint64 (N, 2, 4), as returned by `perceptual_hashes`.
        person: int (N,), the person of each image; -1 if unknown.
        keep: pairs kept as `closest`.
    """
    count, limit = len(hashes), UNRELATED_BITS
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
