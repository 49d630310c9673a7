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

from facecade.base.errors import FacecadeError
from facecade.faces.labels import encode
from facecade.stages import classifiers
from facecade.stages.age import AgeRegressor
from facecade.stages.stage import Criterion, Stage
from facecade.training.losses import is_age_loss

SHARES = {"mask": 0.5, "gender": 1.0, "age": 1.0}
"""Weight of each task's loss. The mask is the easiest of the three to learn, and needs the least."""


@dataclass(frozen=True)
class Part:
    """One task among several. share: weight of its loss."""

    name: str
    stage: Stage
    share: float


def part(name: str, loss: str, share: float = 1.0) -> Part:
    """The task `mask`, `gender` or `age`; age is a band where its loss is a classifier's."""
    stages = {
        "mask": classifiers.mask,
        "gender": classifiers.gender,
        "age": (lambda text: AgeRegressor("age", None, text)) if is_age_loss(loss) else classifiers.band,
    }
    return Part(name, stages[name](loss), share * SHARES[name])


class ManyTasks(Stage):
    """The parts' heads side by side. A row without one of the labels teaches the other parts."""

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name, self.parts = name, tuple(parts)
        self.widths = [part.stage.width for part in self.parts]
        self.outputs = tuple(output for part in self.parts for output in part.stage.outputs)
        self.learns_years = any(part.stage.learns_years for part in self.parts)

    def criterion(self, cap: float | None, taught: np.ndarray) -> Criterion:
        losses = [part.stage.criterion(cap, column) for part, column in zip(self.parts, taught.T, strict=True)]

        def total(outputs: Tensor, target: Tensor) -> Tensor:
            result = torch.zeros(len(outputs), device=outputs.device)
            pieces = zip(self.parts, losses, outputs.split(self.widths, 1), target.unbind(1), strict=True)
            for part, loss, logits, wanted in pieces:
                each = loss(logits, wanted.nan_to_num())
                result = result + part.share * torch.where(wanted.isnan(), torch.zeros_like(each), each)
            return result

        return total

    def target(self, table: pd.DataFrame) -> np.ndarray:
        """What each part should answer for each row, float32 (N, T); NaN where unknown."""
        return np.column_stack([part.stage.target(table) for part in self.parts])


class Joint(ManyTasks):
    """Mask, gender and age, all answered.

    loss: the three's, as `ce | ce | dldl`; one alone is the age's, beside cross-entropy.
    """

    def __init__(self, loss: str) -> None:
        said = [text.strip() for text in loss.split("|")]
        if len(said) not in (1, len(SHARES)):
            raise FacecadeError(f"'{loss}' is no loss of the joint stage", "write ce | ce | dldl: mask, gender, age")
        losses = said if len(said) > 1 else ["ce", "ce", said[0]]
        super().__init__("joint", [part(name, text) for name, text in zip(SHARES, losses, strict=True)])
        self.columns = tuple(f"{part.name}.{column}" for part in self.parts for column in part.stage.columns)
        self.measures = tuple(f"{part.name} {measure}" for part in self.parts for measure in part.stage.measures)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return np.max([part.stage.weight(table, other_gender) for part in self.parts], axis=0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return encode(*(part.stage.stratum(table) for part in self.parts))

    def logits(self, outputs: Tensor) -> Tensor:
        pieces = zip(self.parts, outputs.split(self.widths, 1), strict=True)
        return torch.cat([part.stage.logits(piece) for part, piece in pieces], 1)

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        ends = np.cumsum([len(part.stage.columns) for part in self.parts])
        pieces = np.split(logits, ends[:-1], axis=1)
        scores = [(part.name, part.stage.score(piece, table)) for part, piece in zip(self.parts, pieces, strict=True)]
        return {f"{name} {measure}": value for name, score in scores for measure, value in score.items()}


class Aided(ManyTasks):
    """A stage that learns the other tasks beside its own, and answers its own alone."""

    def __init__(self, stage: Stage, share: float) -> None:
        own = "age" if isinstance(stage, AgeRegressor) else stage.name
        losses = {"mask": "ce", "gender": "ce", "age": "dldl"}
        others = [part(name, loss, share) for name, loss in losses.items() if name != own]
        super().__init__(stage.name, [Part(own, stage, 1.0), *others])
        self.own, self.columns, self.measures = stage, stage.columns, stage.measures

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return self.own.weight(table, other_gender)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return self.own.stratum(table)

    def logits(self, outputs: Tensor) -> Tensor:
        return self.own.logits(outputs[:, : self.own.width])

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        return self.own.score(logits, table)
