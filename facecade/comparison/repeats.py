"""Repeat every network of a recipe, to average the repeats.

Inference averages the folds' networks, but scores on held-out people come from one fold's network and do not show what
averaging gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from facecade.recipe import kind_of
from facecade.recipe_file import parse


def with_repeats(tables: Mapping[str, Any], times: int) -> dict[str, Any]:
    """A recipe's tables with each stage repeated, each repeat with its own seed (derived from its name).

    The first of each keeps its name, so that its fits stay current. If a stage starts from another, its copy starts from
    the other's copy.
    """
    written, starts = tables["stages"], {name: stage.start_stage for name, stage in parse(tables).stages.items()}
    stages = dict(written)
    for _ in range(times - 1):
        copies: dict[str, str] = {}
        for name, stage in written.items():
            numbered = (f"{kind_of(name)}-{number}" for number in count(2))
            copies[name] = next(other for other in numbered if other not in stages)
            start = starts[name]
            stages[copies[name]] = {**stage, "weights": f"stage:{copies[start]}"} if start else stage
    return {**tables, "stages": stages}
