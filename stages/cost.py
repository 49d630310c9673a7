"""The training cost of a stage in floating-point operations, counted before training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from facecade.faces.labels import BAND_EDGES
from facecade.recipe import StageRecipe
from facecade.stages.fit import new_backbone
from facecade.stages.stage import Stage
from facecade.training.freeze import PartlyFrozen
from facecade.training.sampling import epoch_rows

TRAINING_FACTOR = 3
"""Operations of a training step per operation of a forward pass: the backward pass takes twice as many
(Kaplan et al. 2020, arXiv:2001.08361, section 2.1)."""


def training_flops(stage: Stage, recipe: StageRecipe, table: pd.DataFrame) -> float:
    """Operations to train a stage on all rows of a sample table, without early stopping."""
    frozen, trainable = forward_flops(stage, recipe)
    frozen_total = frozen * len(recipe.views) * int((stage.weight(table, recipe.other_gender) > 0).sum())
    return frozen_total + TRAINING_FACTOR * trainable * recipe.epochs * images_in_epoch(stage, recipe, table)


def forward_flops(stage: Stage, recipe: StageRecipe) -> tuple[int, int]:
    """Operations of a stage's model for one image: of its frozen and of its trainable part. A multiply-add counts as
    two."""
    backbone = new_backbone(stage, recipe, 0).eval()
    partly_frozen = PartlyFrozen(backbone, recipe.freeze, recipe.size) if recipe.freeze != "none" else None
    backbone.to("meta")  # shapes without values: nothing is computed
    image = torch.zeros(1, *recipe.size, 3, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as frozen:
        features = partly_frozen.frozen_features(image) if partly_frozen else image
    with torch.inference_mode(), FlopCounterMode(display=False) as trainable:
        (partly_frozen or backbone)(features)
    return int(frozen.get_total_flops()), int(trainable.get_total_flops())


def images_in_epoch(stage: Stage, recipe: StageRecipe, table: pd.DataFrame) -> int:
    """Images in an epoch of a stage if no fold is held out."""
    rows = np.flatnonzero(stage.weight(table, recipe.other_gender) > 0)
    old = (table["age"] >= BAND_EDGES[-1]).to_numpy()
    count = len(epoch_rows(rows, table["person"].to_numpy(), stage.stratum(table), old, recipe, 0, 0))
    return round(count * (1 - recipe.stop_share)) if recipe.patience else count
