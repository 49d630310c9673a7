"""Which stages share a backbone, so that one pass through it answers for all of them."""

from __future__ import annotations

from collections.abc import Mapping

from recipe import StageRecipe

ALIKE = ("size", "mean", "std", "views")
"""Keys that decide, with the weights, what a backbone says of a crop."""


def families(stages: Mapping[str, StageRecipe]) -> list[tuple[str, ...]]:
    """The stages in groups, by the one whose backbone they have: a stage that starts from another and freezes all of it
    differs from that one in its head alone."""
    members: dict[str, list[str]] = {}
    for name in stages:
        members.setdefault(_backbone_of(name, stages), []).append(name)
    return [tuple(group) for group in members.values()]


def _backbone_of(name: str, stages: Mapping[str, StageRecipe]) -> str:
    stage = stages[name]
    if stage.start is None or stage.freeze != "all":
        return name
    start = stages[stage.start]
    alike = all(getattr(stage, key) == getattr(start, key) for key in ALIKE)
    return _backbone_of(stage.start, stages) if alike else name
