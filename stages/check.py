"""Check that everything that a recipe names exists, and that a stage has something to learn, before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from facecade.backbones.backbone import Backbone, require_model
from facecade.backbones.weights import require_fitting_weights, require_weights
from facecade.base.errors import FacecadeError, first_line
from facecade.faces.labels import GENDERS, MASKS
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
        stages: to be fitted; their weights must exist and fit.

    Raises:
        FacecadeError: an unknown backbone, loss, augmentation, optimizer or schedule, or arguments that it does not
            accept; weights that are not installed, or of another network.
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
        _require_loss(stage)
        require_model(settings.backbone)
        if settings.freeze != "none":
            PartlyFrozen(new_backbone(stage, settings, 0), settings.freeze, settings.size)
        settings = settings.model_copy(update={"layer_decay": 1.0})  # the test model has a single layer
        schedule = Schedule(make_optimizer(torch.nn.Linear(1, 1), settings), settings, 2)  # timm warns about 1 step
        schedule.require_rates()
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)
    starts = {name: _first_stage(recipe, name) for name in stages}
    for name in dict.fromkeys(starts.values()):  # of every stage, before a network is built
        require_weights(recipe.stages[name].backbone, recipe.stages[name].weights)
    for name in dict.fromkeys([*starts.values(), *stages]):
        settings = recipe.stages[name]
        stage = make_stage(name, settings.loss, settings.auxiliary)
        backbone = new_backbone(stage, settings, 0)
        if name in starts.values():
            require_fitting_weights(backbone, settings.backbone, settings.weights)
        _require_runs(backbone, settings)


def _require_loss(stage: Stage) -> None:
    """Raises FacecadeError if the loss of a stage cannot be computed, or is not finite, where the model knows nothing."""
    rows = itertools.product(MASKS, GENDERS, (25.0, 45.0, 65.0))
    target = stage.target(pd.DataFrame(rows, columns=["mask", "gender", "age"]))
    try:
        loss = stage.criterion(None, target)(torch.zeros(len(target), stage.width), torch.from_numpy(target))
    except Exception as error:  # each loss has its own
        raise FacecadeError(f"stages.{stage.name}.loss: {first_line(error)}", "see the options of the loss") from None
    if not torch.isfinite(loss).all():
        raise FacecadeError(f"stages.{stage.name}.loss is not finite", "see the options of the loss")


def _first_stage(recipe: Recipe, name: str) -> str:
    """The stage whose weights a stage starts from, directly or through others; itself if it starts from none."""
    start = recipe.stages[name].start_stage
    return _first_stage(recipe, start) if start else name


def _require_runs(backbone: Backbone, settings: StageRecipe) -> None:
    """Raises FacecadeError if a model cannot compute an embedding of an image of the recipe's size."""
    height, width = settings.size
    what = f"{settings.backbone} cannot run on images of {height}×{width}"
    try:
        with torch.inference_mode():
            embedding = backbone.eval()(torch.zeros(1, height, width, 3, dtype=torch.uint8))[0]
    except Exception as error:  # each network has its own
        raise FacecadeError(f"{what}: {first_line(error)}", "give another size, or other backbone_args") from None
    if embedding.ndim != 2 or not embedding.shape[1]:
        raise FacecadeError(f"{what}: it has no embedding", "give another size, or other backbone_args")


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
