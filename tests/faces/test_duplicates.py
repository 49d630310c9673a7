"""ExactDuplicates of an image are found, whatever was done to their files, and strangers are not."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable

import imagehash
import numpy as np
import pytest
from PIL import Image

from facecade.faces.duplicates import BITS, NEAR, ExactDuplicates, compare, copies, perceptual_hashes


def scenes(count: int, seed: int = 0) -> list[Image.Image]:
    """Pictures with the soft shapes of images, each unlike the others, 192 × 256 (width × height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 12, 9, 3), np.uint8)
    return [Image.fromarray(each).resize((192, 256), Image.Resampling.BICUBIC) for each in coarse]


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved anew": lambda image: saved(image, 35),
    "halved": lambda image: image.resize((96, 128)),
    "enlarged": lambda image: image.resize((480, 640)),
    "mirrored": lambda image: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 80),
    "brighter": lambda image: image.point(lambda value: min(255, value * 5 // 4)),
    "trimmed": lambda image: image.crop((1, 2, 190, 254)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_near_and_strangers_are_far(change: str) -> None:
    originals = scenes(20)
    pictures = [*originals, *(CHANGES[change](image) for image in originals)]
    hashes = np.stack([perceptual_hashes(np.asarray(image)) for image in pictures])
    found = compare(hashes, np.arange(40), workers=2)
    near = {(pair.first, pair.second) for pair in found.closest if pair.bits <= NEAR}
    assert near == {(place, place + 20) for place in range(20)}
    assert found.near.all() and found.across[: NEAR + 1].sum() == 20


def test_distances_are_imagehash_s() -> None:
    first, second = scenes(2, seed=5)
    found = compare(np.stack([perceptual_hashes(np.asarray(image)) for image in (first, second)]), np.array([0, 1]))
    mirror = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    wanted = min(imagehash.phash(each, 16) - imagehash.phash(second, 16) for each in (first, mirror))
    assert found.across[wanted] == 1 == found.across.sum()


def one_by_one(hashes: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """What `compare` says, pair after pair."""
    totals, across = np.zeros((2, BITS + 1), int), []
    for first in range(len(hashes)):
        for second in range(first + 1, len(hashes)):
            off = [sum((int(a) ^ int(b)).bit_count() for a, b in zip(way, hashes[second, 0])) for way in hashes[first]]
            other = person[first] != person[second] or person[first] < 0
            totals[int(other), min(off)] += 1
            if other:
                across.append((min(off), first, second))
    return totals[0], totals[1], sorted(across)


@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_blocks_say_what_pairs_say(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facecade.faces.duplicates.CELLS", 1500)  # ten rows a block
    rng = np.random.default_rng(count)
    hashes = rng.integers(0, 2**63, (count, 2, 4), np.uint64)
    hashes[count // 2 :: 3, 0] = hashes[: len(hashes[count // 2 :: 3]), 0] ^ np.uint64(0b101)  # a few bits away
    person = rng.integers(-1, 30, count)
    within, across, pairs = one_by_one(hashes, person)
    found = compare(hashes, person, workers=2, keep=20)
    assert (found.within == within).all() and (found.across == across).all()
    kept = [(pair.bits, pair.first, pair.second) for pair in found.closest]
    assert kept == [pair for pair in pairs if pair[0] < BITS // 2][:20]
    near = {place for bits, *both in pairs if bits <= NEAR for place in both}
    assert set(np.flatnonzero(found.near)) == near


def test_memory_does_not_grow_with_the_pairs() -> None:
    hashes = np.zeros((4000, 2, 4), np.uint64)  # all alike: 8 million pairs, each of which might be kept
    tracemalloc.start()
    found = compare(hashes, np.arange(4000), keep=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.closest) == 50 and found.across[0] == 4000 * 3999 // 2
    assert peak < 60e6  # one byte a pair would be 16 MB, the pairs themselves 190


def test_files_of_the_same_bytes_are_grouped() -> None:
    content = np.array(["a", "b", "a", "c", "c", "d", "c"])
    found = copies(content, np.array([0, 0, 0, 1, 2, 3, 1]))
    assert [group.tolist() for group in found.across] == [[3, 4, 6]]
    assert [group.tolist() for group in found.within] == [[0, 2]]
    unknown = copies(content, np.full(7, -1))
    assert [group.tolist() for group in unknown.across] == [[0, 2], [3, 4, 6]] and not unknown.within
    assert copies(np.array([], str), np.array([], int)) == ExactDuplicates([], [])
