"""The registry of stages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from facecade.base.errors import FacecadeError, unknown_name
from facecade.recipe import kind_of
from facecade.stages import classifiers
from facecade.stages.age import AgeRegressor
from facecade.stages.joint import Joint, WithAuxiliaryTasks
from facecade.stages.stage import Stage

STAGES: dict[str, Callable[[str], Stage]] = {
    "joint": Joint,
    "flat": classifiers.flat,
    "mask": classifiers.mask,
    "gender": classifiers.gender,
    "gender-age": classifiers.gender_age,
    "age-male": partial(AgeRegressor, "age-male", "male"),
    "age-female": partial(AgeRegressor, "age-female", "female"),
}
"""Functions that make a stage from its loss, by name."""


def make_stage(name: str, loss: str, auxiliary: float = 0.0) -> Stage:
    """A stage of the registry.

    Args:
        name: a kind, for example `joint`; with a number (`joint-2`) another model of the same kind.
        loss: as a recipe writes it.
        auxiliary: weight of the other tasks' losses, which are added to its own.

    Raises:
        FacecadeError: an unknown stage or loss; it names the nearest.
    """
    kind = kind_of(name)
    if kind not in STAGES:
        raise unknown_name("stage", name, [*STAGES, "all"])
    stage = STAGES[kind](loss)
    if auxiliary and kind not in ("mask", "gender", "age-male", "age-female"):
        raise FacecadeError(f"stages.{name}.auxiliary: {kind} already trains on every task", "remove the key")
    if auxiliary:
        stage = WithAuxiliaryTasks(stage, auxiliary)
    stage.name = name
    return stage
