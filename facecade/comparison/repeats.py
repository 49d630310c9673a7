"""Every network of a recipe several times, to be averaged: inference averages the folds' networks, and a score of held-out
people, who are answered by one fold's, cannot see what that is worth to a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from facecade.recipe import kind_of
from facecade.recipe_file import parse


def with_repeats(tables: Mapping[str, Any], times: int) -> dict[str, Any]:
    """A recipe's tables with each stage so many times, from seeds of their own (a stage's name decides them).

    The first of each keeps its name, so that its fits stay current. A copy of a stage that starts from another starts
    from that one's copy.
    """
    written, starts = tables["stages"], {name: stage.start for name, stage in parse(tables).stages.items()}
    stages = dict(written)
    for _ in range(times - 1):
        copies: dict[str, str] = {}
        for name, stage in written.items():
            numbered = (f"{kind_of(name)}-{number}" for number in count(2))
            copies[name] = next(other for other in numbered if other not in stages)
            start = starts[name]
            stages[copies[name]] = {**stage, "weights": f"stage:{copies[start]}"} if start else stage
    return {**tables, "stages": stages}
