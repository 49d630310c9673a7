"""A stage: one thing that is learned."""

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
    """A target, the rows it learns from, its loss, and how its head is read.

    The table is a sample table (`faces.table`) of N rows. A stage knows nothing of backbones,
    folds or files.

    name: the stage's. outputs: what each output of the model's head stands for; a stage that starts from another
    takes over the outputs of the same name. columns: names of the C logits that it answers. measures: names of its
    scores, the one that its settings are searched for last.
    """

    name: str
    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    measures: tuple[str, ...] = ("accuracy",)
    learns_years = False
    """Whether an age in years is among its targets."""

    @property
    def width(self) -> int:
        """Outputs of the model's head."""
        return len(self.outputs)

    @abstractmethod
    def criterion(self, cap: float | None, taught: np.ndarray) -> Criterion:
        """The loss that it learns by.

        Args:
            cap: where ages are censored, in years.
            taught: targets of the rows that teach, for losses that weigh rare classes.
        """

    @abstractmethod
    def target(self, table: pd.DataFrame) -> np.ndarray:
        """What each row should answer, float32 (N,), or (N, T) for T tasks; NaN where unknown."""

    @abstractmethod
    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        """How much each row teaches, float32 (N,); 0 where it does not."""

    @abstractmethod
    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        """The class that sampling balances by, int64 (N,)."""

    @abstractmethod
    def logits(self, outputs: Tensor) -> Tensor:
        """The head's outputs [N, width] as logits [N, C], float32."""

    @abstractmethod
    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        """Measures of logits (N, C) on N held-out rows."""


class Classifier(Stage):
    """A stage that names one of several classes.

    label: from a table to the class of each row, float32 (N,); NaN where unknown. loss: as a recipe writes it.
    """

    def __init__(
        self, name: str, values: Sequence[str], label: Callable[[pd.DataFrame], np.ndarray], loss: str
    ) -> None:
        class_loss(loss, torch.ones(len(values)))  # a wrong name fails here, not after an hour
        self.name, self.columns = name, tuple(values)
        self.outputs = tuple(f"{name} {value}" for value in values)
        self.label, self.loss = label, loss

    def criterion(self, cap: float | None, taught: np.ndarray) -> Criterion:
        counts = np.bincount(taught[~np.isnan(taught)].astype(int), minlength=self.width)
        return class_loss(self.loss, torch.from_numpy(counts).float())

    def target(self, table: pd.DataFrame) -> np.ndarray:
        return self.label(table)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return (~np.isnan(self.label(table))).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return np.nan_to_num(self.label(table)).astype(np.int64)

    def logits(self, outputs: Tensor) -> Tensor:
        return outputs

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        label = self.label(table)
        known = ~np.isnan(label)
        return {"accuracy": float((logits.argmax(1) == label)[known].mean())}
