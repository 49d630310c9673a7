"""Photographs without labels that another run labelled, to learn from (pseudo-labels, Lee 2013).

What a fold's models learn must not know the people they are scored on. So there is a label for each fold: that
of the other run's models, and combiner, which never saw the people of the same fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from base.artifact import digest, read_json, write_csv, write_json
from base.errors import FacecadeError
from faces.labels import BAND_EDGES, GENDERS, MASKS, decode

TYPICAL_AGE = (22.0, 45.0, 65.0)
"""Years put down for each band where no stage knows years: nothing but the band may be learned from them."""


@dataclass(frozen=True)
class Pseudo:
    """Labels that models gave.

    root: where the photographs are. table: `fold, path, content, mask, gender, age, confidence`, one row for each
    fold and photograph that it is sure of. record: where the labels come from, whether ages are more than a band
    (`years`), and how often such labels are right.
    """

    root: Path
    table: pd.DataFrame
    record: dict[str, Any]

    @property
    def hash(self) -> str:
        return digest(self.table[["fold", "content", "mask", "gender", "age"]].to_numpy().tolist())

    def save(self, folder: Path) -> None:
        """Write labels.csv, and pseudo.json last."""
        write_csv(folder / "labels.csv", self.table)
        write_json(folder / "pseudo.json", {**self.record, "data": str(self.root.resolve())})

    def text(self) -> str:
        """In one line: how many, whose, and how often such labels are right."""
        right = self.record["held_out"]
        return (
            f"pseudo-labels: {self.table['path'].nunique()} photographs of {self.root}, labelled by {self.record['run']} at confidence"
            f" {self.record['confidence']:g}; of its held-out people, {right['share']:.0%} of the photographs reach that, and {right['accuracy']:.1%} of those labels are right"
        )


def read_pseudo(folder: Path) -> Pseudo:
    """Labels that were kept; raises FacecadeError where there are none."""
    if not (folder / "pseudo.json").exists():
        raise FacecadeError(f"{folder} holds no pseudo-labels", "make them: python cli.py pseudo-label DATA")
    record = read_json(folder / "pseudo.json")
    table = pd.read_csv(folder / "labels.csv", dtype={"path": str, "content": str}, keep_default_na=False)
    return Pseudo(Path(record["data"]), table, record)


def labels_from(probability: np.ndarray, years: np.ndarray) -> pd.DataFrame:
    """The likeliest class of N photographs as the columns `mask, gender, age, confidence`.

    Args:
        probability: float (N, 18).
        years: float (N,), estimated ages, NaN where there are none. They are moved into the class's band, so that
            stages of years and of bands learn the same.
    """
    mask, gender, band = decode(probability.argmax(1))
    low = np.array([1.0, *BAND_EDGES])[band]
    high = np.array([*(np.array(BAND_EDGES) - 0.5), 100.0])[band]
    age = np.where(np.isnan(years), np.array(TYPICAL_AGE)[band], np.clip(years, low, high))
    return pd.DataFrame(
        {
            "mask": np.array(MASKS)[mask],
            "gender": np.array(GENDERS)[gender],
            "age": age.round(2),
            "confidence": probability.max(1).round(4),
        }
    )
