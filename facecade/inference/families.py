"""Which stages share a backbone, so that one pass through it answers for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from facecade.recipe import StageRecipe

ALIKE = ("size", "mean", "std", "views")
"""Keys that decide, with the weights, what a backbone says of a crop."""


def families(stages: Mapping[str, StageRecipe]) -> list[tuple[str, ...]]:
    """The stages in groups, by the backbone that they have: stages that freeze all of the same one, another stage's or one that others
    trained, differ in their heads alone."""
    members: dict[str, list[str]] = {}
    for name in stages:
        members.setdefault(_backbone_of(name, stages), []).append(name)
    return [tuple(group) for group in members.values()]


def _backbone_of(name: str, stages: Mapping[str, StageRecipe]) -> str:
    """The name of the first stage that has a stage's backbone, or what it was frozen as."""
    stage = stages[name]
    if stage.same_in_all_folds:
        return json.dumps(stage.model_dump(include={"backbone", "backbone_args", "weights", *ALIKE}), sort_keys=True)
    if stage.freeze != "all" or stage.start is None:
        return name
    start = stages[stage.start]
    alike = all(getattr(stage, key) == getattr(start, key) for key in ALIKE)
    return _backbone_of(stage.start, stages) if alike else name
