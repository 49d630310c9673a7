"""Images that two people share are found, and listed by the two people."""

from __future__ import annotations

import numpy as np
import pandas as pd
from conftest import scene

from facecade.faces.duplicates import perceptual_hashes
from facecade.faces.shared_images import equal_image_notes, pairs_table, shared_images


def table_of(people: str, content: str) -> pd.DataFrame:
    """A sample table: a letter is the person of an image, and a letter its content."""
    paths = [f"{person}/{number}.jpg" for number, person in enumerate(people)]
    return pd.DataFrame(
        {"path": paths, "person": list(people), "content": list(content)}, index=range(5, len(people) + 5)
    )


def hashes_of(seeds: list[int], halved: tuple[int, ...] = ()) -> np.ndarray:
    """Hashes of scenes, some of them halved in size."""
    images = [scene(seed).resize((96, 128)) if index in halved else scene(seed) for index, seed in enumerate(seeds)]
    return np.stack([perceptual_hashes(np.asarray(image)) for image in images])


def test_equal_files_of_two_people_are_found_without_hashes() -> None:
    pairs = shared_images(table_of("baabcc", "xyxyzx"), None)
    found = [(pair.person, pair.other, pair.image, pair.other_image, pair.bits, pair.count) for pair in pairs]
    assert found == [
        ("b", "a", "b/0.jpg", "a/2.jpg", None, 2),  # the person who comes first in the table
        ("b", "c", "b/0.jpg", "c/5.jpg", None, 1),
    ]
    assert str(pairs[0]) == "b/0.jpg of 'b' and a/2.jpg of 'a' are equal files (2 such pairs of the two people)"
    assert shared_images(table_of("aab", "xxy"), None) == []


def test_near_duplicates_of_two_people_follow_equal_files() -> None:
    table = table_of("aabbcc", "tuvwxx")
    hashes = hashes_of([1, 2, 3, 1, 4, 4], halved=(3,))
    (pair,) = shared_images(table, hashes)
    assert (pair.person, pair.other, pair.image, pair.other_image, pair.count) == ("a", "b", "a/0.jpg", "b/3.jpg", 1)
    assert pair.bits is not None and 0 < pair.bits <= 40 and f"near-duplicates ({pair.bits} of 256 bits" in str(pair)
    both = shared_images(table.assign(content=list("tuvwxu")), hashes)
    assert [(each.person, each.other, each.bits is None) for each in both] == [("a", "c", True), ("a", "b", False)]


def test_two_people_with_equal_and_near_images_are_one_pair() -> None:
    (pair,) = shared_images(table_of("aabb", "xyxz"), hashes_of([1, 2, 1, 2], halved=(3,)))
    assert pair.bits is None and pair.count == 2


def test_the_table_of_pairs_says_yes_for_equal_files_only() -> None:
    pairs = shared_images(table_of("aabbc", "xyxzw"), hashes_of([1, 2, 1, 5, 2], halved=(4,)))
    table = pairs_table(pairs)
    assert table[["person", "other", "same"]].to_numpy().tolist() == [["a", "b", "yes"], ["a", "c", ""]]
    assert table["image"].tolist() == ["a/0.jpg", "a/1.jpg"] and table["bits"][0] == 0 < table["bits"][1]
    assert list(pairs_table([]).columns) == list(table.columns)


def test_messages_are_short() -> None:
    table = table_of("ab", "xx").assign(person=["a" * 999, "b" * 999], path=["p" * 999, "q" * 999])
    assert len(str(shared_images(table, None)[0])) < 300


def test_equal_images_of_one_person_are_noted() -> None:
    assert equal_image_notes(table_of("aaab", "xxyx")) == ["2 images are equal to another of the same person"]
    assert equal_image_notes(table_of("aab", "xyx")) == []
