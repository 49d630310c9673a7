"""Check that everything that a recipe names exists, and that a stage has something to learn, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from facecade.backbones.backbone import require_model
from facecade.backbones.weights import require_weights
from facecade.base.errors import FacecadeError
from facecade.recipe import Recipe, StageRecipe, kind_of
from facecade.stages import make_stage
from facecade.stages.fit import new_backbone, training_weight
from facecade.stages.stage import Classifier, Stage
from facecade.training.augment import build
from facecade.training.freeze import PartlyFrozen
from facecade.training.optimizers import Schedule, make_optimizer


def check_recipe(recipe: Recipe, stages: Sequence[str]) -> None:
    """Build everything that a recipe names, so that a wrong name fails before anything is written or trained.

    Args:
        stages: to be fitted; their weights must exist.

    Raises:
        FacecadeError: an unknown backbone, loss, augmentation, optimizer or schedule, or arguments that it does not
            accept; weights that are not installed.
    """

    columns: dict[str, tuple[str, ...]] = {}
    for name, settings in recipe.stages.items():
        stage = make_stage(name, settings.loss, settings.auxiliary)
        if columns.setdefault(kind_of(name), stage.columns) != stage.columns:
            raise FacecadeError(
                f"{name} has other outputs than the other {kind_of(name)} stage",
                "give both a loss of the same kind: their outputs are averaged",
            )
        if settings.vote == "hard" and not isinstance(stage, Classifier):
            raise FacecadeError(
                f"stages.{name}.vote = 'hard' counts votes for classes, and {name} does not predict exactly one class",
                "vote = 'soft' averages its views",
            )
        require_model(settings.backbone)
        if settings.freeze != "none":
            PartlyFrozen(new_backbone(stage, settings, 0), settings.freeze, settings.size)
        settings = settings.model_copy(update={"layer_decay": 1.0})  # the test model has a single layer
        Schedule(make_optimizer(torch.nn.Linear(1, 1), settings), settings, 2)  # timm warns about a schedule of 1 step
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)
    for name in stages:
        settings = recipe.stages[name]
        while settings.start_stage:
            settings = recipe.stages[settings.start_stage]
        require_weights(settings.backbone, settings.weights)


def nothing_to_learn(stage: Stage, recipe: StageRecipe, table: pd.DataFrame) -> str:
    """Why a stage cannot be trained on the rows of a sample table: they lack its label, or have one class of it. Empty if it
    can."""
    used = table[training_weight(stage, recipe, table) > 0]
    for name, label in stage.labels(used).items():
        known = label[~np.isnan(label)]
        what = "its label" if name == stage.name else f"the label {name}"
        if not len(known):
            return f"no image has {what}"
        if (known == known[0]).all():
            return f"{what} is the same in all {len(known)} images that have it"
    return ""
