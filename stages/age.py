"""The age stages: a regressor of years for each gender, asked about every row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from faces.labels import BAND_EDGES, band_of
from stages.stage import Loss, Stage
from training.losses import AGE_BINS, age_loss, years


class AgeRegressor(Stage):
    """Age in years, learned from one gender (None: from everybody).

    With a distribution loss the logits also say how sure it is that a band's edge is passed.
    """

    def __init__(self, name: str, gender: str | None) -> None:
        self.name, self.gender = name, gender

    def columns(self, loss: str) -> tuple[str, ...]:
        return ("years", *(f"log_odds_{edge:.0f}" for edge in BAND_EDGES)) if loss == "dldl" else ("years",)

    def head(self, loss: str) -> int:
        return len(AGE_BINS) if loss == "dldl" else 1

    def loss(self, name: str, cap: float | None) -> Loss:
        return age_loss(name, cap)

    def target(self, table: pd.DataFrame) -> np.ndarray:
        return table["age"].to_numpy(np.float32)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        own = self._own(table)
        return np.where(table["age"].notna(), np.where(own, 1.0, other_gender), 0.0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return band_of(table["age"])

    def logits(self, outputs: np.ndarray, loss: str) -> np.ndarray:
        raw = torch.from_numpy(outputs)
        answer = [years(raw)]
        if loss == "dldl":
            log_p = raw.log_softmax(-1)
            for edge in BAND_EDGES:
                above = log_p[:, edge <= AGE_BINS].logsumexp(-1)
                answer.append(above - log_p[:, edge > AGE_BINS].logsumexp(-1))
        return torch.stack(answer, 1).numpy().astype(np.float32)

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        own = self._own(table)
        return {"mae": float(np.nanmean(np.abs(logits[own, 0] - table["age"].to_numpy()[own])))}

    def _own(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows show the gender that this regressor is for."""
        return np.full(len(table), True) if self.gender is None else (table["gender"] == self.gender).to_numpy()


AGE_MALE = AgeRegressor("age-male", "male")
AGE_FEMALE = AgeRegressor("age-female", "female")
