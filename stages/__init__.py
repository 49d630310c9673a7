"""What each model learns: the registry of stages, one line each."""

from __future__ import annotations

from base.errors import FacecadeError, unknown_name
from stages.age import AGE_FEMALE, AGE_MALE
from stages.gender import GENDER
from stages.joint import JOINT, Aided
from stages.mask import MASK
from stages.stage import Stage

STAGES: dict[str, Stage] = {stage.name: stage for stage in (JOINT, MASK, GENDER, AGE_MALE, AGE_FEMALE)}


def stage_named(name: str, auxiliary: float = 0.0) -> Stage:
    """A stage of the registry; raises FacecadeError naming the nearest.

    Args:
        auxiliary: share of the other tasks' losses that the stage learns beside its own.
    """
    if name not in STAGES:
        raise unknown_name("stage", name, [*STAGES, "all"])
    if auxiliary and STAGES[name] is JOINT:
        raise FacecadeError("stages.joint.auxiliary: the joint stage learns every task already", "leave the key out")
    return Aided(STAGES[name], auxiliary) if auxiliary else STAGES[name]
