"""Samples that a model is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from facecade.recipe import StageRecipe
from facecade.training import augment
from facecade.training.predict import predict


class Dataset(Protocol):
    """Samples of a sample table, by row."""

    def sample(self, row: int, seed: int) -> np.ndarray:
        """The training sample of a row; the same seed gives the same sample in every process."""

    def outputs(self, model: torch.nn.Module, rows: np.ndarray, first_view: bool = False) -> np.ndarray:
        """Head outputs of a model in eval mode for some rows (n,): float32 (n, C); the mean over the recipe's views, or of
        the first view alone."""


class AugmentedCrops:
    """Face crops, augmented with another seed each time."""

    def __init__(
        self,
        crops: np.ndarray,
        crop_row: np.ndarray,
        transforms: Sequence[Mapping[str, Any]],
        recipe: StageRecipe,
    ) -> None:
        """
        Args:
            crops: uint8 (M, h, w, 3), RGB, an array or a memory map.
            crop_row: int64 (N,), index of each row's crop.
            transforms: augmentation, as `training.augment.build` takes it.
        """
        self.crops, self.crop_row = crops, crop_row
        self.pipeline = augment.build(transforms, recipe.size)
        self.recipe = recipe.model_copy(update={"vote": "soft"})  # the loss needs outputs, not votes

    def __getstate__(self) -> dict[str, Any]:
        """A memory map is pickled as its file name and shape, without its pixels."""
        crops = self.crops
        return {**self.__dict__, "crops": (crops.filename, crops.shape) if isinstance(crops, np.memmap) else crops}

    def __setstate__(self, state: dict[str, Any]) -> None:
        crops = state["crops"]
        opened = np.memmap(crops[0], np.uint8, "r", shape=crops[1]) if isinstance(crops, tuple) else crops
        self.__dict__.update(state, crops=opened)

    def sample(self, row: int, seed: int) -> np.ndarray:
        """uint8 (*size, 3), RGB."""
        return augment.apply(self.pipeline, np.asarray(self.crops[self.crop_row[row]]), seed)

    def outputs(self, model: torch.nn.Module, rows: np.ndarray, first_view: bool = False) -> np.ndarray:
        views = self.recipe.views[:1] if first_view else self.recipe.views
        recipe = self.recipe.model_copy(update={"views": views})
        return predict(model, self.crops, self.crop_row[rows], recipe)[1]
