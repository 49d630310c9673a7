"""The joint stage: mask, gender and age on one backbone, a loss on each.

A voice of its own, and a start for other stages (`weights = "stage:joint"`): three tasks teach a backbone more
about faces than any one of them does (multi-task learning, Caruana 1997, doi:10.1023/A:1007379606734).
"""

from __future__ import annotations

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
    """One task of the joint stage; share: the weight of its loss."""

    name: str
    stage: Stage
    share: float

    def loss_name(self, recipe_loss: str) -> str:
        """The recipe names the age part's loss; the other parts use cross-entropy."""
        return recipe_loss if self.name == "age" else "ce"

    def head(self, recipe_loss: str) -> int:
        return self.stage.head(self.loss_name(recipe_loss))


PARTS = (Part("mask", MASK, 0.5), Part("gender", GENDER, 1.0), Part("age", AgeRegressor("age", None), 1.0))
"""The mask is the easiest of the three to learn, and needs the least weight."""


class Joint(Stage):
    """The parts' heads side by side. A row without one of the labels teaches the other parts."""

    name = "joint"

    def columns(self, loss: str) -> tuple[str, ...]:
        return tuple(f"{part.name}.{name}" for part in PARTS for name in part.stage.columns(part.loss_name(loss)))

    def head(self, loss: str) -> int:
        return sum(part.head(loss) for part in PARTS)

    def loss(self, name: str, cap: float | None) -> Loss:
        losses = [part.stage.loss(part.loss_name(name), cap) for part in PARTS]
        widths = [part.head(name) for part in PARTS]

        def total(outputs: Tensor, target: Tensor) -> Tensor:
            result = torch.zeros(len(outputs), device=outputs.device)
            for part, loss, logits, wanted in zip(
                PARTS, losses, outputs.split(widths, 1), target.unbind(1), strict=True
            ):
                each = loss(logits, wanted.nan_to_num())
                result = result + part.share * torch.where(wanted.isnan(), torch.zeros_like(each), each)
            return result

        return total

    def target(self, table: pd.DataFrame) -> np.ndarray:
        """Mask, gender and age of each row, float32 (N, 3); NaN where unknown."""
        return np.column_stack([part.stage.target(table) for part in PARTS])

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return np.max([part.stage.weight(table, other_gender) for part in PARTS], axis=0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return encode(*(part.stage.stratum(table) for part in PARTS))

    def logits(self, outputs: np.ndarray, loss: str) -> np.ndarray:
        places = np.cumsum([part.head(loss) for part in PARTS])[:-1]
        pieces = zip(PARTS, np.split(outputs, places, axis=1), strict=True)
        return np.column_stack([part.stage.logits(piece, part.loss_name(loss)) for part, piece in pieces])

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        places = np.cumsum([len(MASK.values), len(GENDER.values)])
        pieces = zip(PARTS, np.split(logits, places, axis=1), strict=True)
        scores = [(part.name, part.stage.score(piece, table)) for part, piece in pieces]
        return {f"{name} {measure}": value for name, score in scores for measure, value in score.items()}


JOINT = Joint()
