"""A stage: one thing that is learned; and what a fitted stage says of photographs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from training.losses import class_loss

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StageOutput:
    """What one model says of N photographs: embedding (N, D) and logits (N, C), float32."""

    embedding: np.ndarray
    logits: np.ndarray


class Stage(ABC):
    """A target, the rows it learns from, its loss, and how its head is read.

    The table is a sample table (`faces.table`) of N rows. A stage knows nothing of backbones,
    folds or files.
    """

    name: str

    @abstractmethod
    def columns(self, loss: str) -> tuple[str, ...]:
        """Names of the C logits that a model trained with `loss` gives."""

    @abstractmethod
    def head(self, loss: str) -> int:
        """Width of the model's head for `loss`."""

    @abstractmethod
    def loss(self, name: str, cap: float | None) -> Loss:
        """The loss called `name`; `cap` is where ages are censored, in years."""

    @abstractmethod
    def target(self, table: pd.DataFrame) -> np.ndarray:
        """What each row should answer, float32 (N,), or (N, T) where the loss takes T targets."""

    @abstractmethod
    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        """How much each row teaches, float32 (N,); 0 where it does not."""

    @abstractmethod
    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        """The class that sampling balances by, int64 (N,)."""

    @abstractmethod
    def logits(self, outputs: np.ndarray, loss: str) -> np.ndarray:
        """The head's outputs (N, width) as logits (N, C), float32."""

    @abstractmethod
    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        """Measures of logits (N, C) on N held-out rows."""


class Classifier(Stage):
    """A stage that names one of a label column's values."""

    def __init__(self, name: str, column: str, values: Sequence[str]) -> None:
        self.name, self.column, self.values = name, column, tuple(values)

    def columns(self, loss: str) -> tuple[str, ...]:
        return self.values

    def head(self, loss: str) -> int:
        return len(self.values)

    def loss(self, name: str, cap: float | None) -> Loss:
        return class_loss(name)

    def target(self, table: pd.DataFrame) -> np.ndarray:
        return table[self.column].map({value: i for i, value in enumerate(self.values)}).to_numpy(np.float32)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return (table[self.column] != "").to_numpy(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return np.nan_to_num(self.target(table)).astype(np.int64)

    def logits(self, outputs: np.ndarray, loss: str) -> np.ndarray:
        return outputs

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        return {"accuracy": float((logits.argmax(1) == self.target(table)).mean())}
