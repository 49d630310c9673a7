"""What a fitted run left on disk about how well it answers, read once for everything that is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.artifact import read_arrays, read_json
from facecade.faces.table import read_kept


@dataclass(frozen=True)
class NestedPredictions:
    """Nested answers and where they come from; no row was answered by anything that had seen its label.

    table: sample table, N rows. label, answer: classes (N,), the answer by the choice made inside the folds. probability:
    float (N, 18), by the kept way. years: float (N,), the age estimate; NaN where no stage knows years. ways: answers (N,) of every way.
    combiner: the record of combiner/meta.json. fits: the record of every fold of every stage.
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
        """That of a run whose combiner is fitted."""
        arrays = read_arrays(artifacts / "combiner/nested.npz")
        return cls(
            read_kept(artifacts / "table.csv"),
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
        """Who each row shows, (N,)."""
        return self.table["person"].to_numpy()

    @property
    def age(self) -> np.ndarray:
        """Ages in years as recorded, float (N,)."""
        return self.table["age"].to_numpy(float)

    @property
    def confidence(self) -> np.ndarray:
        """Probability (N,) that the answer is given."""
        return self.probability[np.arange(len(self.prediction)), self.prediction]
