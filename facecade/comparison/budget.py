"""Recipes scaled to the same small compute, and what was changed in each."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError

from facecade.base.errors import problems
from facecade.recipe import Recipe, Section, StageRecipe
from facecade.recipe_file import explain, read_toml
from facecade.stages import make_stage
from facecade.stages.cost import images_in_epoch, training_flops
from facecade.stages.stage import Stage


class Budget(Section):
    """What every recipe gets: the same pixels, operations and kind of backbone, however it divides them."""

    pixels: int = Field(16128, ge=256)
    """Largest area of a model's input and of the stored crops; a recipe keeps its shape."""
    teraflops: float = Field(20.0, gt=0)
    """Operations (10^12) that training on one fold takes, over all stages together."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate of every backbone that was replaced: published ones belong to much longer training."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """How much lower the rate of each layer of such a backbone is than that of the layer above."""
    batch_size: int = Field(16, ge=2)
    """Images of a step of every backbone that was replaced: in so short a training the steps decide."""
    backbones: dict[str, str] = Field(default_factory=dict)
    """For each pattern of backbone names, the backbone used in its place."""
    backbone_args: dict[str, Any] = Field(default_factory=dict)
    """ExtraData arguments of every backbone that was replaced."""
    weights: str = "none"
    """Where every backbone that was replaced starts."""


def read_budget(path: Path) -> Budget:
    """A budget from TOML; raises one FacecadeError that names everything wrong with it."""
    try:
        return Budget.model_validate(read_toml(path))
    except ValidationError as error:
        raise problems(path, [explain(problem, Budget) for problem in error.errors()]) from None


@dataclass(frozen=True)
class Scaled:
    """A recipe's tables at a budget, and what was changed, in words."""

    tables: dict[str, Any]
    changes: list[str]


def scale(tables: Mapping[str, Any], recipe: Recipe, budget: Budget, table: pd.DataFrame) -> Scaled:
    """Fit a recipe into a budget.

    A recipe's stages keep their shares of its training: what each shows is multiplied by the same number, in epochs
    and, where those are few, in images of a person. The longest stage makes up for how the others were rounded.

    Args:
        tables: the recipe as written; recipe: the same, parsed.
        table: the sample table that it is trained on.

    Returns:
        Its tables so scaled, and for each stage whatever became another, with what it costs.
    """
    face = _sized(recipe.face.size, budget.pixels)
    changes = [] if face == recipe.face.size else [f"face {_text(recipe.face.size)} → {_text(face)}"]
    stages = {name: _smaller(stage, budget) for name, stage in recipe.stages.items()}
    made = {name: make_stage(name, stage.loss, stage.auxiliary) for name, stage in stages.items()}
    share = (recipe.folds - 1) / recipe.folds  # of the people, in training on a fold
    cost = {name: training_flops(made[name], stage, table) * share for name, stage in stages.items()}
    left, unsettled = budget.teraflops * 1e12, sum(cost.values())
    lengths = {}
    for name in sorted(stages, key=lambda name: cost[name]):
        old = recipe.stages[name]
        wanted = old.epochs * images_in_epoch(made[name], old, table) * max(left, 0) / unsettled
        epochs, per_person = lengths[name] = _lengths(made[name], stages[name], wanted, table)
        settled = stages[name].model_copy(update={"epochs": epochs, "per_person": per_person})
        left, unsettled = left - training_flops(made[name], settled, table) * share, unsettled - cost[name]
    written = {}
    for name, old in recipe.stages.items():
        epochs, per_person = lengths[name]
        new = stages[name].model_copy(update={"epochs": epochs, "per_person": per_person})
        if "num_epochs" in old.schedule_args or "min_lr" in old.schedule_args:
            new = new.model_copy(update={"schedule_args": _schedule(old, epochs, new.lr)})
        written[name] = new
        shown = round(epochs * images_in_epoch(made[name], new, table) * share)
        spent = f"{shown} images a fold, {training_flops(made[name], new, table) * share / 1e12:.1f} teraflops"
        changes.append(f"{name}: " + ", ".join([*_changed(old, new), spent]))
    kept = {key: value for key, value in tables.items() if key != "defaults"}
    return Scaled(
        {
            **kept,
            "face": {**tables.get("face", {}), "size": list(face)},
            "stages": {name: stage.model_dump(mode="json", exclude_unset=True) for name, stage in written.items()},
        },
        changes,
    )


def _smaller(stage: StageRecipe, budget: Budget) -> StageRecipe:
    """A stage with the budget's size, and with its backbone, rate and batch where that replaces the stage's."""
    update: dict[str, Any] = {"size": _sized(stage.size, budget.pixels)}
    backbone = next((new for old, new in budget.backbones.items() if fnmatch.fnmatchcase(stage.backbone, old)), None)
    if backbone and backbone != stage.backbone:
        update |= {
            "backbone": backbone,
            "backbone_args": budget.backbone_args,
            "lr": budget.lr,
            "batch_size": budget.batch_size,
        }
        update |= {"layer_decay": budget.layer_decay}
        # Statistics of the input belong to the weights that were trained by them.
        update |= {} if stage.start else {"weights": budget.weights, "mean": None, "std": None}
    return stage.model_copy(update=update)


def _lengths(made: Stage, stage: StageRecipe, images: float, table: pd.DataFrame) -> tuple[int, int]:
    """Epochs and images of a person that together show nearly so many; as the recipe has the latter, if that is
    within a tenth."""
    whole = images_in_epoch(made, stage, table)
    epochs = max(1, round(images / whole))
    if abs(epochs * whole - images) <= 0.1 * images:
        return epochs, stage.per_person
    epochs = max(1, math.ceil(images / whole))
    most = stage.per_person or int(table.groupby("person").size().max())
    methods = {count: stage.model_copy(update={"per_person": count}) for count in range(1, most + 1)}
    off = {count: abs(epochs * images_in_epoch(made, method, table) - images) for count, method in methods.items()}
    return epochs, min(off, key=lambda count: off[count])


def _schedule(stage: StageRecipe, epochs: int, lr: float) -> dict[str, Any]:
    """The schedule's arguments in proportion to the new epochs and rate."""
    arguments = dict(stage.schedule_args)
    if "num_epochs" in arguments:
        arguments["num_epochs"] = max(1, round(arguments["num_epochs"] * epochs / stage.epochs))
    if "min_lr" in arguments:
        arguments["min_lr"] *= lr / stage.lr
    return arguments


def _sized(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """The same shape with so many pixels, each side a multiple of four; never larger."""
    factor = min(1.0, (pixels / (size[0] * size[1])) ** 0.5)
    height, width = (max(32, 4 * round(side * factor / 4)) for side in size)
    return height, width


def _changed(old: StageRecipe, new: StageRecipe) -> list[str]:
    """What a stage has other than in its recipe, as `lr 0.0001 → 0.001`; nothing that stayed."""
    keys = [key for key in StageRecipe.model_fields if getattr(old, key) != getattr(new, key)]
    values = {key: [_text(getattr(stage, key)) for stage in (old, new)] for key in keys}
    if "per_person" in values:
        values["per_person"] = [value if value != "0" else "all" for value in values["per_person"]]
    return [f"{key.replace('_', ' ')} {before} → {after}" for key, (before, after) in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, tuple):  # a size
        return "×".join(str(side) for side in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_text(part)}" for key, part in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
