"""What a stage's training costs, counted before it begins."""

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

TRAINING = 3
"""Operations of a training step over those of a forward pass: the backward pass takes twice as many
(Kaplan et al. 2020, arXiv:2001.08361, section 2.1)."""


def training_flops(stage: Stage, recipe: StageRecipe, table: pd.DataFrame) -> float:
    """Operations of training a stage on everybody in a sample table; early stopping may save some."""
    frozen, learning = forward_flops(stage, recipe)
    once = frozen * len(recipe.views) * int((stage.weight(table, recipe.other_gender) > 0).sum())
    return once + TRAINING * learning * recipe.epochs * images_in_epoch(stage, recipe, table)


def forward_flops(stage: Stage, recipe: StageRecipe) -> tuple[int, int]:
    """Operations of a stage's model on one image, of its frozen part and of what learns; a multiplication and an
    addition counting as two."""
    backbone = new_backbone(stage, recipe, 0).eval()
    partly_frozen = PartlyFrozen(backbone, recipe.freeze, recipe.size) if recipe.freeze != "none" else None
    backbone.to("meta")  # shapes without numbers: nothing is computed
    image = torch.zeros(1, *recipe.size, 3, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as frozen:
        features = partly_frozen.cache_features(image) if partly_frozen else image
    with torch.inference_mode(), FlopCounterMode(display=False) as learning:
        (partly_frozen or backbone)(features)
    return int(frozen.get_total_flops()), int(learning.get_total_flops())


def images_in_epoch(stage: Stage, recipe: StageRecipe, table: pd.DataFrame) -> int:
    """Images that an epoch of a stage shows, were nobody held out."""
    rows = np.flatnonzero(stage.weight(table, recipe.other_gender) > 0)
    old = (table["age"] >= BAND_EDGES[-1]).to_numpy()
    shown = len(epoch_rows(rows, table["person"].to_numpy(), stage.stratum(table), old, recipe, 0, 0))
    return round(shown * (1 - recipe.stop_share)) if recipe.patience else shown
