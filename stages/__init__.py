"""What each model learns: the registry of stages, one line each."""

from __future__ import annotations

from base.errors import unknown_name
from stages.age import AGE_FEMALE, AGE_MALE
from stages.gender import GENDER
from stages.joint import JOINT
from stages.mask import MASK
from stages.stage import Stage

STAGES: dict[str, Stage] = {stage.name: stage for stage in (JOINT, MASK, GENDER, AGE_MALE, AGE_FEMALE)}


def stage_named(name: str) -> Stage:
    """A stage of the registry; raises FacecadeError naming the nearest."""
    if name not in STAGES:
        raise unknown_name("stage", name, [*STAGES, "all"])
    return STAGES[name]
