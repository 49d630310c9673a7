"""Whether everything that a recipe names exists, before anything is written or trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from facecade.backbones.backbone import require_model
from facecade.backbones.weights import require_weights
from facecade.base.errors import FacecadeError
from facecade.recipe import Recipe, kind_of
from facecade.stages import make_stage
from facecade.stages.fit import new_backbone
from facecade.stages.stage import Classifier
from facecade.training.augment import build
from facecade.training.freeze import PartlyFrozen
from facecade.training.optimizers import Schedule, make_optimizer


def check_recipe(recipe: Recipe, stages: Sequence[str]) -> None:
    """Make everything that a recipe names, so that a wrong name fails before anything is written or trained.

    Args:
        stages: those to be fitted, whose weights must be there.

    Raises:
        FacecadeError: a backbone, loss, augmentation, optimizer or schedule that there is not, or that does not take its
            arguments; weights that are not installed.
    """

    columns: dict[str, tuple[str, ...]] = {}
    for name, stage in recipe.stages.items():
        made = make_stage(name, stage.loss, stage.auxiliary)
        if columns.setdefault(kind_of(name), made.columns) != made.columns:
            raise FacecadeError(
                f"{name} answers something else than the other {kind_of(name)} stage",
                "give both a loss of the same kind: their answers are averaged",
            )
        if stage.vote == "hard" and not isinstance(made, Classifier):
            raise FacecadeError(
                f"stages.{name}.vote = 'hard' counts votes for classes, and {name} answers more or other than one class",
                "vote = 'soft' averages its views",
            )
        require_model(stage.backbone)
        if stage.freeze != "none":
            PartlyFrozen(new_backbone(made, stage, 0), stage.freeze, stage.size)
        settings = stage.model_copy(update={"layer_decay": 1.0})  # of one layer there is nothing to decay
        Schedule(make_optimizer(torch.nn.Linear(1, 1), settings), settings, 2)  # timm warns of a schedule of one step
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)
    for name in stages:
        stage = recipe.stages[name]
        while stage.start:
            stage = recipe.stages[stage.start]
        require_weights(stage.backbone, stage.weights)
