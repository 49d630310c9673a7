"""The summary of a comparison: a table, and a sentence that follows from the intervals."""

from __future__ import annotations

from typing import Any

import pytest

from facecade.report.leaderboard import summary


def entry(recipe: str, kind: str, gap: tuple[float, float], eval_gap: tuple[float, float] | None) -> dict[str, Any]:
    score = {"macro-F1": {"value": 0.5, "low": 0.4, "high": 0.6}}
    gaps = [each and {"value": sum(each) / 2, "low": each[0], "high": each[1]} for each in (gap, eval_gap)]
    row = {"recipe": recipe, "kind": kind, "nested": score, "eval": score if eval_gap else None}
    return row | {"to_best": gaps[0], "eval_to_best": gaps[1]}


def summary_of(gap: tuple[float, float], eval_gap: tuple[float, float] | None) -> list[str]:
    own = entry("own", "combined", (0.0, 0.0), eval_gap and (0.0, 0.0))
    others = [entry("other", kind, gap, eval_gap) for kind in ("as published", "combined")]
    return summary({"entries": [own, *others]}, "own").splitlines()


@pytest.mark.parametrize(
    ("gap", "eval_gap", "expected"),
    [
        ((-0.05, -0.01), (0.01, 0.05), "Nested, Facecade's cascade is significantly better than the other two rows"),
        ((-0.05, -0.01), (0.01, 0.05), "on eval, it is significantly worse than the other two rows"),
        ((-0.05, -0.01), (-0.01, 0.05), "on eval, it does not differ significantly from the other two rows"),
        ((-0.05, 0.01), (-0.01, 0.05), "Nested and on eval, Facecade's cascade does not differ significantly"),
        ((-0.05, 0.01), None, "Nested, Facecade's cascade does not differ significantly"),
    ],
)
def test_the_conclusion_follows_from_the_intervals(
    gap: tuple[float, float], eval_gap: tuple[float, float] | None, expected: str
) -> None:
    *_, conclusion = summary_of(gap, eval_gap)
    assert expected in conclusion


def test_the_table_has_a_row_for_facecade_and_one_for_each_kind() -> None:
    head, _, *rows, _, _ = summary_of((-0.05, -0.01), (-0.01, 0.05))
    assert head == "| macro-F1 | nested | eval | difference, nested | difference, eval |"
    assert [row.split(" | ")[0] for row in rows] == [
        "| Facecade's cascade, combined",
        "| best other system, as published: `other`",
        "| best other system, combined: `other`",
    ]
    assert rows[0].endswith("| - | - |") and "-0.030 [-0.050, -0.010]" in rows[1]
    assert "eval" not in "".join(summary_of((-0.05, -0.01), None))


def test_facecade_is_not_called_better_if_another_system_is_best() -> None:
    other = [entry("other", kind, (0.0, 0.0), None) for kind in ("as published", "combined")]
    own = entry("own", "combined", (-0.05, -0.01), None)
    text = summary({"entries": [*other, own]}, "own")
    assert "does not have the best nested score" in text and "better" not in text
