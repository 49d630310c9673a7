"""The nested predictions that a fitted run saved; reports and pages read them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facecade.base.arrays import Layout, read_arrays
from facecade.base.artifact import again
from facecade.base.errors import FacecadeError
from facecade.faces.labels import N_CLASSES
from facecade.faces.table import labelled_rows, read_saved_table
from facecade.records import CombinerRecord, FitRecord, combiner_command, read_combiner_record, read_fit_record

NESTED = "nested.npz"
"""File of a combiner with the nested predictions."""

_LAYOUT: Layout = {
    "label": "i8 rows",
    "prediction": "i8 rows",
    "probability": f"f4 rows {N_CLASSES}",
    "years": "f8? rows",
    "methods": "U methods",
    "predictions": "i8 methods rows",
}


@dataclass(frozen=True)
class NestedPredictions:
    """Nested predictions and the records of their fits; nothing that predicted a row was fitted with its label.

    table: the N rows of the sample table that have all labels. label, prediction: classes (N,), the prediction by the method chosen inside the folds.
    probability: float (N, 18), by the run's method. years: float (N,), the predicted age; NaN where no stage predicts
    years. methods: predictions (N,) of every method. combiner: its record. fits: the record of every fold of every stage.
    """

    table: pd.DataFrame
    label: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray
    years: np.ndarray
    methods: Mapping[str, np.ndarray]
    combiner: CombinerRecord
    fits: Sequence[FitRecord]

    @classmethod
    def read(cls, artifacts: Path) -> NestedPredictions:
        """Read from the run folder of a run whose combiner is fitted; raises FacecadeError where a file is damaged."""
        folder, made_by = artifacts / "combiner", combiner_command(artifacts / "combiner")
        combiner, table = read_combiner_record(folder), read_saved_table(artifacts / "table.csv")
        table = table.iloc[labelled_rows(table)].reset_index(drop=True)
        arrays = read_arrays(folder / NESTED, combiner.files.get(NESTED, ""), _LAYOUT, made_by)
        classes = [arrays[name] for name in ("label", "prediction", "predictions")]
        in_range = all(((each >= 0) & (each < N_CLASSES)).all() for each in classes)
        methods = dict(zip(arrays["methods"].tolist(), arrays["predictions"], strict=True))
        if not in_range or len(arrays["label"]) != len(table) or methods.keys() != combiner.nested.keys():
            raise FacecadeError(f"{folder / NESTED} has predictions of other images or methods", again(made_by))
        return cls(
            table,
            arrays["label"],
            arrays["prediction"],
            arrays["probability"].astype(float),
            arrays["years"],
            methods,
            combiner,
            [read_fit_record(path.parent) for path in sorted(artifacts.glob("stages/*/fold*/meta.json"))],
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
    def kept(self) -> np.ndarray:
        """Predictions (N,) of the run's method."""
        return self.methods[self.combiner.method]

    @property
    def top_probability(self) -> np.ndarray:
        """Probability (N,) of the class that the run's method predicts."""
        return self.probability[np.arange(len(self.kept)), self.kept]  # type: ignore[no-any-return]
