"""Changed copies of an image are found, and images of other people are not."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable

import imagehash
import numpy as np
import pytest
from PIL import Image

from facecade.faces.duplicates import (
    HASH_BITS,
    NEAR_DUPLICATE_BITS,
    ExactDuplicates,
    find_exact_duplicates,
    find_near_duplicates,
    look_alike,
    near_duplicates_of,
    perceptual_hashes,
)
from facecade.faces.labels import GENDERS
from facecade.faces.synthetic import draw_face


def scenes(count: int, seed: int = 0) -> list[Image.Image]:
    """Random smooth images, 192 × 256 (width × height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 12, 9, 3), np.uint8)
    return [Image.fromarray(pixels).resize((192, 256), Image.Resampling.BICUBIC) for pixels in coarse]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": lambda image: jpeg(image, 35),
    "halved": lambda image: image.resize((96, 128)),
    "enlarged": lambda image: image.resize((480, 640)),
    "mirrored": lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 80),
    "brighter": lambda image: image.point(lambda value: min(255, value * 5 // 4)),
    "trimmed": lambda image: image.crop((1, 2, 190, 254)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_near_duplicates_and_other_images_are_not(change: str) -> None:
    originals = scenes(20)
    images = [*originals, *(CHANGES[change](image) for image in originals)]
    hashes = np.stack([perceptual_hashes(np.asarray(image)) for image in images])
    found = find_near_duplicates(hashes, np.arange(40), workers=2)
    near = {(pair.first, pair.second) for pair in found.closest if pair.bits <= NEAR_DUPLICATE_BITS}
    assert near == {(index, index + 20) for index in range(20)}
    assert found.near.all() and found.across[: NEAR_DUPLICATE_BITS + 1].sum() == 20


def test_distances_equal_those_of_imagehash() -> None:
    first, second = scenes(2, seed=5)
    found = find_near_duplicates(
        np.stack([perceptual_hashes(np.asarray(image)) for image in (first, second)]), np.array([0, 1])
    )
    mirror = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    expected = min(imagehash.phash(image, 16) - imagehash.phash(second, 16) for image in (first, mirror))
    assert found.across[expected] == 1 == found.across.sum()


def compare_all_pairs(
    hashes: np.ndarray, person: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """The expected results of `find_near_duplicates`, computed pair by pair."""
    totals, across = np.zeros((2, HASH_BITS + 1), int), []
    for first in range(len(hashes)):
        for second in range(first + 1, len(hashes)):
            bits = [
                sum((int(a) ^ int(b)).bit_count() for a, b in zip(words, hashes[second, 0])) for words in hashes[first]
            ]
            other = person[first] != person[second] or person[first] < 0
            totals[int(other), min(bits)] += 1
            if other:
                across.append((min(bits), first, second))
    return totals[0], totals[1], sorted(across)


@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_blocks_give_the_same_results_as_single_pairs(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facecade.faces.duplicates.PAIRS_PER_BLOCK", 1500)  # ten rows a block
    rng = np.random.default_rng(count)
    hashes = rng.integers(0, 2**63, (count, 2, 4), np.uint64)
    hashes[count // 2 :: 3, 0] = hashes[: len(hashes[count // 2 :: 3]), 0] ^ np.uint64(0b101)  # a few bits away
    person = rng.integers(-1, 30, count)
    within, across, pairs = compare_all_pairs(hashes, person)
    found = find_near_duplicates(hashes, person, workers=2, keep=20)
    assert (found.within == within).all() and (found.across == across).all()
    kept = [(pair.bits, pair.first, pair.second) for pair in found.closest]
    assert kept == [pair for pair in pairs if pair[0] < HASH_BITS // 2][:20]
    near = {index for bits, *both in pairs if bits <= NEAR_DUPLICATE_BITS for index in both}
    assert set(np.flatnonzero(found.near)) == near


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    hashes = np.zeros((4000, 2, 4), np.uint64)  # all alike: 8 million pairs, each of which might be kept
    tracemalloc.start()
    found = find_near_duplicates(hashes, np.arange(4000), keep=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.closest) == 50 and found.across[0] == 4000 * 3999 // 2
    assert peak < 60e6  # one byte a pair would be 16 MB, the pairs themselves 190


def test_near_duplicates_of_other_images_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facecade.faces.duplicates.PAIRS_PER_BLOCK", 30)  # three rows a block
    originals = scenes(10)
    new = [*scenes(4, seed=1), CHANGES["mirrored"](originals[3]), *scenes(2, seed=2), CHANGES["trimmed"](originals[9])]
    hashes, others = (np.stack([perceptual_hashes(np.asarray(i)) for i in images]) for images in (new, originals))
    assert near_duplicates_of(hashes, others, workers=2).tolist() == [False] * 4 + [True, False, False, True]
    assert near_duplicates_of(hashes[:0], others).tolist() == near_duplicates_of(hashes[:0], others[:0]).tolist() == []


def test_drawn_people_look_alike_and_others_do_not() -> None:
    person = np.repeat(np.arange(10), 3)
    drawn = [draw_face("normal", GENDERS[p % 2], 30, p, image) for p in range(10) for image in range(3)]
    different = scenes(30)
    different[15] = CHANGES["saved again"](different[0])  # one person under two ids does not make all alike
    for images, expected in ((drawn, True), (different, False)):
        hashes = np.stack([perceptual_hashes(np.asarray(image)) for image in images])
        assert look_alike(hashes, person) is expected
    assert look_alike(hashes[:0], person[:0]) is False and look_alike(hashes[:3], person[:3]) is False


def test_a_large_image_is_hashed_like_a_small_one() -> None:
    small = scenes(1)[0]
    large = small.resize((1920, 2560), Image.Resampling.BICUBIC)
    bits = np.bitwise_count(perceptual_hashes(np.asarray(small)) ^ perceptual_hashes(np.asarray(large))).sum(1)
    assert bits.max() <= 8


def test_files_with_equal_bytes_are_grouped() -> None:
    content = np.array(["a", "b", "a", "c", "c", "d", "c"])
    found = find_exact_duplicates(content, np.array([0, 0, 0, 1, 2, 3, 1]))
    assert [group.tolist() for group in found.across] == [[3, 4, 6]]
    assert [group.tolist() for group in found.within] == [[0, 2]]
    unknown = find_exact_duplicates(content, np.full(7, -1))
    assert [group.tolist() for group in unknown.across] == [[0, 2], [3, 4, 6]] and not unknown.within
    assert find_exact_duplicates(np.array([], str), np.array([], int)) == ExactDuplicates([], [])
