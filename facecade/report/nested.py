"""The nested predictions that a fitted run saved; reports and pages read them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.artifact import read_arrays, read_json
from facecade.faces.table import read_saved_table


@dataclass(frozen=True)
class NestedPredictions:
    """Nested predictions and the records of their fits; nothing that predicted a row was fitted with its label.

    table: sample table, N rows. label, prediction: classes (N,), the prediction by the method chosen inside the folds.
    probability: float (N, 18), by the run's method. years: float (N,), the predicted age; NaN where no stage predicts
    years. methods: predictions (N,) of every method. combiner: contents of combiner/meta.json. fits: the record of
    every fold of every stage.
    """

    table: pd.DataFrame
    label: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray
    years: np.ndarray
    methods: Mapping[str, np.ndarray]
    combiner: Mapping[str, Any]
    fits: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, artifacts: Path) -> NestedPredictions:
        """Read from the run folder of a run whose combiner is fitted."""
        arrays = read_arrays(artifacts / "combiner/nested.npz")
        return cls(
            read_saved_table(artifacts / "table.csv"),
            arrays["label"],
            arrays["prediction"],
            arrays["probability"].astype(float),
            arrays["years"].astype(float),
            dict(zip(arrays["methods"].tolist(), arrays["predictions"], strict=True)),
            read_json(artifacts / "combiner/meta.json"),
            [read_json(path) for path in sorted(artifacts.glob("stages/*/fold*/meta.json"))],
        )

    @property
    def person(self) -> np.ndarray:
        """The person of each row, (N,)."""
        return self.table["person"].to_numpy()

    @property
    def age(self) -> np.ndarray:
        """Recorded ages in years, float (N,)."""
        return self.table["age"].to_numpy(float)

    @property
    def confidence(self) -> np.ndarray:
        """Probability (N,) of the predicted class."""
        return self.probability[np.arange(len(self.prediction)), self.prediction]
