"""Scale recipes to the same small compute budget, and list the changes of each."""

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
from facecade.recipe import BackboneArgs, BatchSize, LearningRate, Name, Recipe, Section, StageRecipe, Weights
from facecade.recipe_file import MAX_PROBLEMS, read_toml, validation_messages
from facecade.stages import make_stage
from facecade.stages.cost import images_in_epoch, training_flops
from facecade.stages.stage import Stage


class Budget(Section):
    """What every recipe gets: the same pixels, operations and backbones, however it splits them among its stages."""

    pixels: int = Field(16128, ge=256, le=2048**2)
    """Largest area of a model's input and of the stored crops, in pixels; the aspect ratio stays."""
    teraflops: float = Field(20.0, gt=0, le=1e9)
    """Operations (10^12) of training on one fold, all stages together."""
    lr: LearningRate = 1e-3
    """Peak learning rate of every replaced backbone: published rates are for much longer training."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor between the learning rates of a layer and the layer above, in every replaced backbone."""
    batch_size: BatchSize = 16
    """Batch size of every replaced backbone: in such short training the number of steps matters most."""
    backbones: dict[Name, Name] = Field(default_factory=dict)
    """Pattern of backbone names → the backbone that replaces them."""
    backbone_args: BackboneArgs = Field(default_factory=dict)
    """Further arguments of every replaced backbone."""
    weights: Weights = "none"
    """Initial weights of every replaced backbone."""


def read_budget(path: Path) -> Budget:
    """A budget from TOML; raises one FacecadeError that lists all its errors."""
    try:
        return Budget.model_validate(read_toml(path, "budget"))
    except ValidationError as error:
        raise problems(path, validation_messages(error, lambda _: Budget), max_lines=MAX_PROBLEMS) from None


@dataclass(frozen=True)
class ScaledRecipe:
    """A recipe's tables scaled to a budget, and the changes in words."""

    tables: dict[str, Any]
    changes: list[str]


def scale(tables: Mapping[str, Any], recipe: Recipe, budget: Budget, table: pd.DataFrame) -> ScaledRecipe:
    """Fit a recipe into a budget.

    The stages keep their shares of the training: the number of images that each trains on is multiplied by the same
    factor, through the epochs and, where those are few, the images per person. The longest stage absorbs the rounding
    of the others.

    Args:
        tables: the recipe as written; recipe: the same, parsed.
        table: the table of images that it is trained on.

    Returns:
        The scaled tables, and for each stage its changes and its cost.
    """
    face = _scaled_size(recipe.face.size, budget.pixels)
    changes = [] if face == recipe.face.size else [f"face {_text(recipe.face.size)} → {_text(face)}"]
    stages = {name: _scaled_stage(stage, budget) for name, stage in recipe.stages.items()}
    stage_objects = {name: make_stage(name, stage.loss, stage.auxiliary) for name, stage in stages.items()}
    share = (recipe.folds - 1) / recipe.folds  # of the people that a fold trains on
    cost = {name: training_flops(stage_objects[name], stage, table) * share for name, stage in stages.items()}
    remaining, unsettled = budget.teraflops * 1e12, sum(cost.values())
    lengths = {}
    for name in sorted(stages, key=lambda name: cost[name]):
        old = recipe.stages[name]
        images = old.epochs * images_in_epoch(stage_objects[name], old, table) * max(remaining, 0) / unsettled
        epochs, per_person = lengths[name] = _epochs_and_per_person(stage_objects[name], stages[name], images, table)
        settled = stages[name].model_copy(update={"epochs": epochs, "per_person": per_person})
        remaining -= training_flops(stage_objects[name], settled, table) * share
        unsettled -= cost[name]
    scaled = {}
    for name, old in recipe.stages.items():
        epochs, per_person = lengths[name]
        new = stages[name].model_copy(update={"epochs": epochs, "per_person": per_person})
        if "num_epochs" in old.schedule_args or "min_lr" in old.schedule_args:
            new = new.model_copy(update={"schedule_args": _schedule(old, epochs, new.lr)})
        scaled[name] = new
        count = round(epochs * images_in_epoch(stage_objects[name], new, table) * share)
        cost_text = (
            f"{count} images a fold, {training_flops(stage_objects[name], new, table) * share / 1e12:.1f} teraflops"
        )
        changes.append(f"{name}: " + ", ".join([*_changed(old, new), cost_text]))
    other_tables = {key: value for key, value in tables.items() if key != "defaults"}
    return ScaledRecipe(
        {
            **other_tables,
            "face": {**tables.get("face", {}), "size": list(face)},
            "stages": {name: stage.model_dump(mode="json", exclude_unset=True) for name, stage in scaled.items()},
        },
        changes,
    )


def _scaled_stage(stage: StageRecipe, budget: Budget) -> StageRecipe:
    """A stage with the budget's size and, where its backbone is replaced, the budget's backbone, rate and batch size."""
    update: dict[str, Any] = {"size": _scaled_size(stage.size, budget.pixels)}
    backbone = next((new for old, new in budget.backbones.items() if fnmatch.fnmatchcase(stage.backbone, old)), None)
    if backbone and backbone != stage.backbone:
        update |= {
            "backbone": backbone,
            "backbone_args": budget.backbone_args,
            "lr": budget.lr,
            "batch_size": budget.batch_size,
        }
        update |= {"layer_decay": budget.layer_decay}
        # The input statistics belong to the weights that were trained with them.
        update |= {} if stage.start_stage else {"weights": budget.weights, "mean": None, "std": None}
    return stage.model_copy(update=update)


def _epochs_and_per_person(
    stage_object: Stage, stage: StageRecipe, images: float, table: pd.DataFrame
) -> tuple[int, int]:
    """Epochs and images per person that come closest to this number of images; the recipe's images per person stay if
    that is within a tenth."""
    per_epoch = images_in_epoch(stage_object, stage, table)
    epochs = max(1, round(images / per_epoch))
    if abs(epochs * per_epoch - images) <= 0.1 * images:
        return epochs, stage.per_person
    epochs = max(1, math.ceil(images / per_epoch))
    most = stage.per_person or int(table.groupby("person").size().max())
    options = {count: stage.model_copy(update={"per_person": count}) for count in range(1, most + 1)}
    errors = {
        count: abs(epochs * images_in_epoch(stage_object, option, table) - images) for count, option in options.items()
    }
    return epochs, min(errors, key=lambda count: errors[count])


def _schedule(stage: StageRecipe, epochs: int, lr: float) -> dict[str, Any]:
    """The schedule's arguments in proportion to the new epochs and rate."""
    arguments = dict(stage.schedule_args)
    if "num_epochs" in arguments:
        arguments["num_epochs"] = max(1, round(arguments["num_epochs"] * epochs / stage.epochs))
    if "min_lr" in arguments:
        arguments["min_lr"] *= lr / stage.lr
    return arguments


def _scaled_size(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """A size of the same aspect ratio with at most about `pixels` pixels, each side a multiple of four; never larger."""
    factor = min(1.0, (pixels / (size[0] * size[1])) ** 0.5)
    height, width = (max(32, 4 * round(side * factor / 4)) for side in size)
    return height, width


def _changed(old: StageRecipe, new: StageRecipe) -> list[str]:
    """A stage's changed settings, e.g. `lr 0.0001 → 0.001`."""
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
