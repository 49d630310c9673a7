"""Which stages share a backbone, so that one pass through it serves all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from facecade.recipe import StageRecipe

INPUT_KEYS = ("size", "mean", "std", "views")
"""Keys that decide, with the weights, what a backbone computes for a crop."""


def families(stages: Mapping[str, StageRecipe]) -> list[tuple[str, ...]]:
    """The stages, grouped by backbone.

    Stages that freeze the same whole backbone (another stage's, or a published one) differ only in their heads.
    """
    members: dict[str, list[str]] = {}
    for name in stages:
        members.setdefault(_backbone_of(name, stages), []).append(name)
    return [tuple(group) for group in members.values()]


def _backbone_of(name: str, stages: Mapping[str, StageRecipe]) -> str:
    """The first stage with a stage's backbone, or the settings of a frozen published one."""
    stage = stages[name]
    if stage.same_in_all_folds:
        return json.dumps(
            stage.model_dump(include={"backbone", "backbone_args", "weights", *INPUT_KEYS}), sort_keys=True
        )
    if stage.freeze != "all" or stage.start_stage is None:
        return name
    start = stages[stage.start_stage]
    same_input = all(getattr(stage, key) == getattr(start, key) for key in INPUT_KEYS)
    return _backbone_of(stage.start_stage, stages) if same_input else name
