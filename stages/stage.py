"""A stage: one target that a model is trained to predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from facecade.training.losses import class_loss

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(outputs [B, width], targets [B] or [B, T]) → losses [B]."""


class Stage(ABC):
    """A target, its training rows, its loss, and the logits of its head.

    The table is a sample table (`faces.table`) of N rows. A stage is independent of backbones, folds and files.

    outputs: names of the outputs of the model's head; a stage that starts from another takes its outputs of the same
    name. columns: names of the C logits. measures: names of its scores; the last is the default of `tune`.
    """

    name: str
    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    measures: tuple[str, ...] = ("accuracy",)
    learns_years = False
    """Whether it is trained on ages in years."""

    @property
    def width(self) -> int:
        """Outputs of the model's head."""
        return len(self.outputs)

    @abstractmethod
    def criterion(self, cap: float | None, target: np.ndarray) -> Criterion:
        """Its loss function.

        Args:
            cap: age in years from which labels are censored; None if they are exact.
            target: of the training rows, for losses that weight rare classes.
        """

    @abstractmethod
    def target(self, table: pd.DataFrame) -> np.ndarray:
        """The target of each row, float32 (N,), or (N, T) for T tasks; NaN if unknown."""

    @abstractmethod
    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        """Weight of each row in the loss, float32 (N,); 0 if it is not used."""

    def labels(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """The labels that it needs, by name: float32 (N,), NaN if unknown."""
        return {self.name: self.target(table)}

    @abstractmethod
    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        """The class of each row, for balanced sampling, int64 (N,); rows without a label are a class of their own."""

    @abstractmethod
    def logits(self, outputs: Tensor) -> Tensor:
        """Outputs of the head [N, width] → logits [N, C], float32."""

    @abstractmethod
    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        """Scores, by measure, of logits (N, C) for N held-out rows; none where no row has the label."""


class Classifier(Stage):
    """A stage that predicts one of several classes.

    label: function from a table to the class of each row, float32 (N,); NaN if unknown. loss: as a recipe writes it.
    """

    def __init__(
        self, name: str, values: Sequence[str], label: Callable[[pd.DataFrame], np.ndarray], loss: str
    ) -> None:
        class_loss(loss, torch.ones(len(values)))  # a wrong name fails now, not during training
        self.name, self.columns = name, tuple(values)
        self.outputs = tuple(f"{name} {value}" for value in values)
        self.label, self.loss = label, loss

    def criterion(self, cap: float | None, target: np.ndarray) -> Criterion:
        counts = np.bincount(target[~np.isnan(target)].astype(int), minlength=self.width)
        return class_loss(self.loss, torch.from_numpy(counts).float())

    def target(self, table: pd.DataFrame) -> np.ndarray:
        return self.label(table)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return (~np.isnan(self.label(table))).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return np.nan_to_num(self.label(table), nan=self.width).astype(np.int64)

    def logits(self, outputs: Tensor) -> Tensor:
        return outputs

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        label = self.label(table)
        known = ~np.isnan(label)
        return {"accuracy": float((logits.argmax(1) == label)[known].mean())} if known.any() else {}
