"""Recipes scaled to the same small compute, and what was changed in each."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from base.errors import FacecadeError
from recipe import Recipe, Section, StageRecipe, read_toml


class Budget(Section):
    """What every recipe gets: the same pixels, photographs and kind of backbone, however it divides them."""

    pixels: int = Field(16128, ge=256)
    """Area of every model's input and of the stored crops; a recipe keeps its shape."""
    photographs: int = Field(80000, ge=1)
    """Photographs that a fold's models are shown in training, over all stages together."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate: published ones belong to other batches and much longer training."""
    backbones: dict[str, str] = Field(default_factory=dict)
    """For each pattern of backbone names, the backbone used in its place."""
    weights: str = "none"
    """Where every backbone that was replaced starts."""


def read_budget(path: Path) -> Budget:
    """A budget from TOML; raises one FacecadeError that names everything wrong with it."""
    try:
        return Budget.model_validate(read_toml(path))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}" for problem in error.errors()]
        raise FacecadeError(f"{path} has {len(lines)} problem(s):\n  " + "\n  ".join(lines)) from None


@dataclass(frozen=True)
class Scaled:
    """A recipe's tables at a budget, and what was changed, in words."""

    tables: dict[str, Any]
    changes: list[str]


def scale(tables: Mapping[str, Any], recipe: Recipe, budget: Budget, photographs: int, people: int) -> Scaled:
    """Fit a recipe into a budget.

    A recipe's stages keep their shares of its training: each stage's epochs are multiplied by the same number, at
    least one epoch each.

    Args:
        tables: the recipe as written; recipe: the same, parsed.
        photographs, people: of the data's training part of a fold.
    """
    shown = {name: stage.epochs * epoch_length(stage, photographs, people) for name, stage in recipe.stages.items()}
    factor = budget.photographs / sum(shown.values())
    changes = [f"face {_text(recipe.face.size)} → {_text(_sized(recipe.face.size, budget.pixels))}"]
    stages = {}
    for name, stage in recipe.stages.items():
        epochs = max(1, round(stage.epochs * factor))
        size, backbone = _sized(stage.size, budget.pixels), _replacement(stage.backbone, budget.backbones)
        new: dict[str, Any] = {"size": list(size), "epochs": epochs, "lr": budget.lr}
        if "num_epochs" in stage.schedule_args or "min_lr" in stage.schedule_args:
            new["schedule_args"] = _schedule(stage, epochs, budget.lr)
        if backbone:
            new |= {"backbone": backbone, "backbone_args": {}}
            if stage.start is None:
                new["weights"] = budget.weights
        stages[name] = {**stage.model_dump(mode="json", exclude_unset=True), **new}
        changes.append(
            f"{name}: {stage.backbone} → {backbone or 'the same'}, {_text(stage.size)} → {_text(size)}, "
            f"{stage.epochs} → {epochs} epochs, lr {stage.lr:g} → {budget.lr:g}"
        )
    face = {**tables.get("face", {}), "size": list(_sized(recipe.face.size, budget.pixels))}
    kept = {key: value for key, value in tables.items() if key != "defaults"}
    return Scaled({**kept, "face": face, "stages": stages}, changes)


def _schedule(stage: StageRecipe, epochs: int, lr: float) -> dict[str, Any]:
    """The schedule's arguments in proportion to the new epochs and rate."""
    arguments = dict(stage.schedule_args)
    if "num_epochs" in arguments:
        arguments["num_epochs"] = max(1, round(arguments["num_epochs"] * epochs / stage.epochs))
    if "min_lr" in arguments:
        arguments["min_lr"] *= lr / stage.lr
    return arguments


def epoch_length(stage: StageRecipe, photographs: int, people: int) -> int:
    """Photographs that an epoch of a stage shows, nearly."""
    return min(photographs, people * stage.per_person) if stage.per_person else photographs


def _sized(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """The same shape with so many pixels, each side a multiple of four; never larger."""
    factor = min(1.0, (pixels / (size[0] * size[1])) ** 0.5)
    height, width = (max(32, 4 * round(side * factor / 4)) for side in size)
    return height, width


def _replacement(backbone: str, backbones: Mapping[str, str]) -> str | None:
    return next((new for pattern, new in backbones.items() if fnmatch.fnmatchcase(backbone, pattern)), None)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
