"""Images that are the same, or nearly: by a hash of how they look, compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image

from facecade.base.progress import Bar
from facecade.base.threads import bounded_map

BITS = 256
"""Of a hash. 64 are too few for faces, which are much alike: in the sample below 196 pairs of different people lay within 6 of
64 bits, where copies begin to escape."""

NEAR = 40
"""Bits by which near-duplicates may differ. Measured on 11,200 real images of 1,600 people, known to be unique: of 63
million pairs of different people the nearest differed by 50, 18 by at most 56, 288 by at most 64: sixteen times as many with
every 8 bits. Of copies saved anew, resized, mirrored, made brighter by 30 % or cropped by 2 %, 99 in 100 were within 34; of
those cropped by 3 %, 94. A copy cropped by more, or turned, is as far as a stranger and is not found. It is the whole
image that is hashed: a face's box moves a little with every change, and the hash of its crop missed half of such copies."""

NOTHING = BITS // 2
"""Unrelated images differ by about so many bits; pairs this far are not worth keeping."""

CELLS = 500_000
"""Pairs compared at once by each thread: few enough for a core's cache, whatever the number of images."""

_SIDE = 64
_WORDS = BITS // 64


def perceptual_hashes(image: np.ndarray) -> np.ndarray:
    """Perceptual hashes of an image (uint8 (h, w, 3), RGB) and of its mirror image, uint64 (2, 4).

    A bit says whether one of the 16 × 16 lowest frequencies of the luma (DCT of 64 × 64 pixels) is above their median
    (pHash: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; as ImageHash has it).
    """
    luma = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    both = (luma, luma.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    bits = [imagehash.phash(each, hash_size=16).hash.ravel() for each in both]
    return np.packbits(bits, axis=1).view(np.uint64)


@dataclass(frozen=True)
class Pair:
    """Two images, by their places, and the bits in which they differ."""

    first: int
    second: int
    bits: int


@dataclass(frozen=True)
class NearDuplicates:
    """How much images are alike.

    within, across: pairs at each number of different bits, int64 (257,), within a person and across people; where a person is not
    known, every pair is counted as across. closest: of those across, the nearest first. near: whether an image is a near-duplicate of one of
    somebody else, bool (N,).
    """

    within: np.ndarray
    across: np.ndarray
    closest: Sequence[Pair]
    near: np.ndarray


def compare(hashes: np.ndarray, person: np.ndarray, workers: int = 1, keep: int = 2000) -> NearDuplicates:
    """Compare every image with every other, and with its mirror image.

    All pairs are looked at, some 30 million a second on a core, in blocks: memory does not grow with their number.

    Args:
        hashes: uint64 (N, 2, 4), as `perceptual_hashes` gives them.
        person: int (N,), who is shown; -1 where it is not known.
        keep: pairs kept as `closest`.
    """
    count, bound = len(hashes), NOTHING
    rows = max(1, min(512, CELLS // max(count, 1)))
    totals, near, kept = np.zeros((2, BITS + 2), np.int64), np.zeros(count, bool), np.empty((0, 3), np.int64)

    def block(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        end = min(start + rows, count)
        bits = _distances(hashes[start:end], hashes[start:])
        bits[np.tril_indices(end - start, m=count - start)] = BITS + 1  # each pair once, and none with itself
        other = (person[start:end, None] != person[start:]) | (person[start:end, None] < 0)
        counted = np.bincount((bits + other * np.uint16(BITS + 2)).ravel(), minlength=2 * (BITS + 2)).reshape(2, -1)
        alike = np.zeros(count, bool)
        if counted[1, : NEAR + 1].any():
            found = other & (bits <= NEAR)
            alike[start:] = found.any(0)
            alike[start:end] |= found.any(1)
        place = np.flatnonzero(other & (bits < bound))
        first, second = np.divmod(place, count - start)
        pairs = np.column_stack([first + start, second + start, bits.ravel()[place]]).astype(np.int64)
        return counted, alike, _closest(pairs, keep)

    with Bar("compare", count, "images") as bar:
        for counted, alike, pairs in bounded_map(block, range(0, count, rows), workers, ahead=2 * workers):
            totals += counted
            near |= alike
            kept = _closest(np.concatenate([kept, pairs]), keep)
            if len(kept) == keep:  # of pairs as far as the last one kept, the first are kept, and those have been seen
                bound = int(kept[-1, 2])
            bar.advance(min(rows, count - bar.done))
    return NearDuplicates(totals[0, : BITS + 1], totals[1, : BITS + 1], [Pair(*pair) for pair in kept.tolist()], near)


def _distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Bits in which hashes (n, 2, 4) and (m, 2, 4) differ, the nearer of as they are and mirrored, uint16 (n, m)."""
    bits = np.zeros((2, len(some), len(others)), np.uint16)
    for turned in range(2):
        for word in range(_WORDS):
            bits[turned] += np.bitwise_count(some[:, turned, word, None] ^ others[None, :, 0, word])
    return bits.min(0)


def _closest(pairs: np.ndarray, keep: int) -> np.ndarray:
    """Of pairs (n, 3) the `keep` that differ least, in that order, those that come first first."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], pairs[:, 2]))
    return pairs[order[:keep]]


@dataclass(frozen=True)
class ExactDuplicates:
    """Groups of files of the same bytes, the places of each group's: of one person, and of several or of people not known."""

    within: Sequence[np.ndarray]
    across: Sequence[np.ndarray]


def copies(content: np.ndarray, person: np.ndarray) -> ExactDuplicates:
    """Find files of the same content.

    Args:
        content: (N,), a fingerprint of each file. person: int (N,), as in `compare`.
    """
    _, group, size = np.unique(content, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    groups = [part for part in np.split(order, np.cumsum(size)[:-1]) if len(part) > 1]
    other = [bool((person[part] < 0).any()) or len(np.unique(person[part])) > 1 for part in groups]
    within, across = ([part for part, apart in zip(groups, other) if apart == wanted] for wanted in (False, True))
    return ExactDuplicates(within, across)
