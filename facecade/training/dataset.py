"""Images as a model is shown them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from facecade.recipe import StageRecipe
from facecade.training import augment
from facecade.training.predict import predict


class Shown(Protocol):
    """What a model learns from, row by row of a sample table."""

    def sample(self, row: int, seed: int) -> np.ndarray:
        """What training is shown of a row; the same seed shows the same, whichever process asks."""

    def outputs(self, model: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
        """What a model's head answers in eval mode for some rows (n,): float32 (n, C)."""


class AugmentedCrops:
    """Face crops, augmented anew each time."""

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
            crop_row: int64 (N,), where each row's crop lies.
            transforms: augmentation, as `training.augment.build` takes it.
        """
        self.crops, self.crop_row = crops, crop_row
        self.pipeline = augment.build(transforms, recipe.size)
        self.recipe = recipe.model_copy(update={"vote": "soft"})  # a loss is of outputs; votes have none

    def __getstate__(self) -> dict[str, Any]:
        """A memory map goes to another process by the name of its file, not pixel by pixel."""
        crops = self.crops
        return {**self.__dict__, "crops": (crops.filename, crops.shape) if isinstance(crops, np.memmap) else crops}

    def __setstate__(self, state: dict[str, Any]) -> None:
        crops = state["crops"]
        opened = np.memmap(crops[0], np.uint8, "r", shape=crops[1]) if isinstance(crops, tuple) else crops
        self.__dict__.update(state, crops=opened)

    def sample(self, row: int, seed: int) -> np.ndarray:
        """uint8 (*size, 3), RGB."""
        return augment.apply(self.pipeline, np.asarray(self.crops[self.crop_row[row]]), seed)

    def outputs(self, model: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
        return predict(model, self.crops, self.crop_row[rows], self.recipe)[1]
