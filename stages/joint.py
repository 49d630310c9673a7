"""Several tasks on one backbone, a loss on each (multi-task learning, Caruana 1997, doi:10.1023/A:1007379606734).

Mask, gender and age teach a backbone more about faces than any one of them does. The joint stage answers all
three, and other stages may start from it (`weights = "stage:joint"`); an aided stage learns the others beside its
own task (`auxiliary = 0.2`) and answers its own alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from faces.labels import encode
from stages.age import AgeRegressor
from stages.gender import GENDER
from stages.mask import MASK
from stages.stage import Loss, Stage


@dataclass(frozen=True)
class Part:
    """One task among several. share: weight of its loss; loss: its name, "" for the recipe's."""

    name: str
    stage: Stage
    share: float
    loss: str = ""

    def head(self, recipe_loss: str) -> int:
        return self.stage.head(self.loss or recipe_loss)


MASK_PART, GENDER_PART = Part("mask", MASK, 0.5, "ce"), Part("gender", GENDER, 1.0, "ce")
"""The mask is the easiest of the three to learn, and needs the least weight."""
AGE_PART = Part("age", AgeRegressor("age", None), 1.0)


class ManyTasks(Stage):
    """The parts' heads side by side. A row without one of the labels teaches the other parts."""

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name, self.parts = name, tuple(parts)

    def head(self, loss: str) -> int:
        return sum(part.head(loss) for part in self.parts)

    def loss(self, name: str, cap: float | None) -> Loss:
        losses = [part.stage.loss(part.loss or name, cap) for part in self.parts]
        widths = [part.head(name) for part in self.parts]

        def total(outputs: Tensor, target: Tensor) -> Tensor:
            result = torch.zeros(len(outputs), device=outputs.device)
            pieces = zip(self.parts, losses, outputs.split(widths, 1), target.unbind(1), strict=True)
            for part, loss, logits, wanted in pieces:
                each = loss(logits, wanted.nan_to_num())
                result = result + part.share * torch.where(wanted.isnan(), torch.zeros_like(each), each)
            return result

        return total

    def target(self, table: pd.DataFrame) -> np.ndarray:
        """What each part should answer for each row, float32 (N, T); NaN where unknown."""
        return np.column_stack([part.stage.target(table) for part in self.parts])


class Joint(ManyTasks):
    """Mask, gender and age, all answered."""

    def __init__(self) -> None:
        super().__init__("joint", (MASK_PART, GENDER_PART, AGE_PART))

    def columns(self, loss: str) -> tuple[str, ...]:
        return tuple(f"{part.name}.{name}" for part in self.parts for name in part.stage.columns(part.loss or loss))

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return np.max([part.stage.weight(table, other_gender) for part in self.parts], axis=0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return encode(*(part.stage.stratum(table) for part in self.parts))

    def logits(self, outputs: np.ndarray, loss: str) -> np.ndarray:
        places = np.cumsum([part.head(loss) for part in self.parts])[:-1]
        pieces = zip(self.parts, np.split(outputs, places, axis=1), strict=True)
        return np.column_stack([part.stage.logits(piece, part.loss or loss) for part, piece in pieces])

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        places = np.cumsum([len(MASK.values), len(GENDER.values)])
        pieces = zip(self.parts, np.split(logits, places, axis=1), strict=True)
        scores = [(part.name, part.stage.score(piece, table)) for part, piece in pieces]
        return {f"{name} {measure}": value for name, score in scores for measure, value in score.items()}


class Aided(ManyTasks):
    """A stage that learns the other tasks beside its own, and answers its own alone."""

    def __init__(self, stage: Stage, share: float) -> None:
        own = "age" if isinstance(stage, AgeRegressor) else stage.name
        others = [part for part in (MASK_PART, GENDER_PART, AGE_PART) if part.name != own]
        aids = (Part(part.name, part.stage, share * part.share, part.loss or "dldl") for part in others)
        super().__init__(stage.name, (Part(own, stage, 1.0), *aids))
        self.own = stage

    def columns(self, loss: str) -> tuple[str, ...]:
        return self.own.columns(loss)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return self.own.weight(table, other_gender)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return self.own.stratum(table)

    def logits(self, outputs: np.ndarray, loss: str) -> np.ndarray:
        return self.own.logits(outputs[:, : self.own.head(loss)], loss)

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        return self.own.score(logits, table)


JOINT = Joint()
