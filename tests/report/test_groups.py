"""Gaps between groups are measured on the same people, and only clear ones are named."""

from __future__ import annotations

import numpy as np

from facecade.report.groups import Compared, gaps_in_words, means, thirds


def test_means_and_the_widest_gap() -> None:
    person = np.repeat(np.arange(200), 2)
    first = np.arange(400) % 2 == 0
    right = np.where(first, 1.0, np.random.default_rng(0).random(400) < 0.5)
    said, gaps = means({"accuracy": right, "age error": 1 - right}, {"a": first, "b": ~first}, person)
    assert said["a"]["accuracy"].value == 1 and said["b"]["accuracy"].value == right[~first].mean()
    assert said["b"]["accuracy"].low < right[~first].mean() < said["b"]["accuracy"].high
    for gap in gaps:
        assert (gap.better, gap.worse) == ("a", "b") and gap.clear
        assert np.isclose(gap.by.value, 1 - right[~first].mean())
    words = gaps_in_words(Compared("side", {"a": 200, "b": 200}, said, gaps))
    assert "accuracy: b is behind a by 0.5" in words and "age error: b is behind a" in words


def test_chance_is_not_named() -> None:
    person, group = np.arange(300), np.arange(300) % 2 == 0
    right = (np.random.default_rng(1).random(300) < 0.7).astype(float)
    said, gaps = means({"accuracy": right}, {"even": group, "odd": ~group}, person)
    assert not gaps[0].clear
    assert gaps_in_words(Compared("side", {}, said, gaps)) == ""
    assert means({"accuracy": right}, {"all": group | True}, person)[1] == []


def test_thirds_are_thirds_in_order() -> None:
    parts = thirds(np.arange(9.0), ("low", "middle", "high"))
    assert [np.flatnonzero(rows).tolist() for rows in parts.values()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
