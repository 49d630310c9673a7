"""The age stages: a regressor of years for each gender, which predicts every row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from facecade.faces.labels import BAND_EDGES, BANDS, band_of
from facecade.stages.stage import Criterion, Stage
from facecade.training.losses import age_loss


class AgeRegressor(Stage):
    """Age in years, trained on one gender (None: on both).

    If its head has log-odds, the logits also contain those of reaching each edge between age bands.
    """

    learns_years = True
    measures = ("mae",)

    def __init__(self, name: str, gender: str | None, loss: str) -> None:
        self.name, self.gender, self.loss = name, gender, loss
        self.head = age_loss(loss).head
        self.outputs = tuple(f"age {type(self.head).__name__} {index}" for index in range(self.head.width))
        log_odds = tuple(f"log_odds_{edge:.0f}" for edge in BAND_EDGES)
        self.columns = ("years", *log_odds) if self.head.has_log_odds else ("years",)

    def criterion(self, cap: float | None, target: np.ndarray) -> Criterion:
        return age_loss(self.loss, cap)

    def target(self, table: pd.DataFrame) -> np.ndarray:
        return table["age"].to_numpy(np.float32)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        own = self._own(table)
        return np.where(table["age"].notna(), np.where(own, 1.0, other_gender), 0.0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return np.where(table["age"].notna(), band_of(table["age"]), len(BANDS))

    def logits(self, outputs: Tensor) -> Tensor:
        columns = [self.head.years(outputs)]
        if self.head.has_log_odds:
            columns += [self.head.log_odds(outputs, edge) for edge in BAND_EDGES]
        return torch.stack(columns, 1).float()

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        error = np.abs(logits[:, 0] - table["age"].to_numpy())[self._own(table)]
        return {} if np.isnan(error).all() else {"mae": float(np.nanmean(error))}

    def _own(self, table: pd.DataFrame) -> np.ndarray:
        """The rows of this regressor's gender, bool (N,)."""
        return np.full(len(table), True) if self.gender is None else (table["gender"] == self.gender).to_numpy()
