"""What each model learns: the registry of stages, one line each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from facecade.base.errors import FacecadeError, unknown_name
from facecade.recipe import kind_of
from facecade.stages import classifiers
from facecade.stages.age import AgeRegressor
from facecade.stages.joint import Aided, Joint
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
"""Stages by name, each made from its loss."""


def make_stage(name: str, loss: str, auxiliary: float = 0.0) -> Stage:
    """A stage of the registry.

    Args:
        name: a kind, as `joint`; with a number, as `joint-2`, another model of the same kind.
        loss: as a recipe writes it.
        auxiliary: share of the other tasks' losses that it learns beside its own.

    Raises:
        FacecadeError: an unknown stage or loss, naming the nearest.
    """
    kind = kind_of(name)
    if kind not in STAGES:
        raise unknown_name("stage", name, [*STAGES, "all"])
    stage = STAGES[kind](loss)
    if auxiliary and kind not in ("mask", "gender", "age-male", "age-female"):
        raise FacecadeError(f"stages.{name}.auxiliary: {kind} learns every task already", "leave the key out")
    made = Aided(stage, auxiliary) if auxiliary else stage
    made.name = name
    return made
