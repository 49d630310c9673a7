"""Gaps between groups are measured on the same people, and only significant ones are named."""

from __future__ import annotations

import numpy as np

from facecade.report.groups import GroupComparison, gaps_text, group_means, thirds


def test_means_and_the_widest_gap() -> None:
    person = np.repeat(np.arange(200), 2)
    first = np.arange(400) % 2 == 0
    right = np.where(first, 1.0, np.random.default_rng(0).random(400) < 0.5)
    scores, gaps = group_means({"accuracy": right, "age error": 1 - right}, {"a": first, "b": ~first}, person)
    assert scores["a"]["accuracy"].value == 1 and scores["b"]["accuracy"].value == right[~first].mean()
    assert scores["b"]["accuracy"].low < right[~first].mean() < scores["b"]["accuracy"].high
    for gap in gaps:
        assert (gap.better, gap.worse) == ("a", "b") and gap.significant
        assert np.isclose(gap.difference.value, 1 - right[~first].mean())
    text = gaps_text(GroupComparison("side", {"a": 200, "b": 200}, scores, gaps))
    assert "accuracy: b is behind a by 0.5" in text and "age error: b is behind a" in text


def test_gaps_by_chance_are_not_named() -> None:
    person, group = np.arange(300), np.arange(300) % 2 == 0
    right = (np.random.default_rng(1).random(300) < 0.7).astype(float)
    scores, gaps = group_means({"accuracy": right}, {"even": group, "odd": ~group}, person)
    assert not gaps[0].significant
    assert gaps_text(GroupComparison("side", {}, scores, gaps)) == ""
    assert group_means({"accuracy": right}, {"all": group | True}, person)[1] == []


def test_thirds_are_thirds_in_order() -> None:
    parts = thirds(np.arange(9.0), ("low", "middle", "high"))
    assert [np.flatnonzero(rows).tolist() for rows in parts.values()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
