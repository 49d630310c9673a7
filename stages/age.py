"""The age stages: a regressor of years for each gender, asked about every row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from facecade.faces.labels import BAND_EDGES, band_of
from facecade.stages.stage import Criterion, Stage
from facecade.training.losses import age_loss


class AgeRegressor(Stage):
    """Age in years, learned from one gender (None: from everybody).

    With a head that knows odds the logits also say how sure it is that a band's edge is passed.
    """

    learns_years = True
    measures = ("mae",)

    def __init__(self, name: str, gender: str | None, loss: str) -> None:
        self.name, self.gender, self.loss = name, gender, loss
        self.head = age_loss(loss).head
        self.outputs = tuple(f"age {type(self.head).__name__} {place}" for place in range(self.head.width))
        odds = tuple(f"log_odds_{edge:.0f}" for edge in BAND_EDGES)
        self.columns = ("years", *odds) if self.head.gives_log_odds else ("years",)

    def criterion(self, cap: float | None, taught: np.ndarray) -> Criterion:
        return age_loss(self.loss, cap)

    def target(self, table: pd.DataFrame) -> np.ndarray:
        return table["age"].to_numpy(np.float32)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        own = self._own(table)
        return np.where(table["age"].notna(), np.where(own, 1.0, other_gender), 0.0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return band_of(table["age"])

    def logits(self, outputs: Tensor) -> Tensor:
        answer = [self.head.years(outputs)]
        if self.head.gives_log_odds:
            answer += [self.head.log_odds(outputs, edge) for edge in BAND_EDGES]
        return torch.stack(answer, 1).float()

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        own = self._own(table)
        return {"mae": float(np.nanmean(np.abs(logits[own, 0] - table["age"].to_numpy()[own])))}

    def _own(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows show the gender that this regressor is for."""
        return np.full(len(table), True) if self.gender is None else (table["gender"] == self.gender).to_numpy()
