"""Pseudo-labels (Lee 2013): train on unlabeled images that another run labeled.

The labels that a fold is trained on must not depend on the people that it is scored on. So each fold has its own label:
that of the other run's models and combiner which were not trained on the people of the same fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.base.program import command
from facecade.faces.extra import ExtraData, read_extra
from facecade.faces.labels import BAND_EDGES, GENDERS, MASKS, decode

FOLDER = "pseudo"
"""Folder in a run folder for the pseudo-labels that the run made."""

TYPICAL_AGE = (22.0, 45.0, 65.0)
"""Age in years for each band if no stage predicts years; only its band is meaningful for training."""


def pseudo_text(record: Mapping[str, Any], images: int, root: Path) -> str:
    """One line: how many labels, of which run, and how often such labels are right."""
    held_out = record["held_out"]
    return (
        f"pseudo-labels: {images} images of {root}, labelled by {record['run']} at confidence"
        f" {record['confidence']:g}; {held_out['share']:.0%} of its held-out images reach that, and {held_out['accuracy']:.1%} of their labels are right"
    )


def read_pseudo(run: Path) -> ExtraData:
    """The pseudo-labels of a run; raises FacecadeError if there are none."""
    if not (run / FOLDER / "labels.json").exists():
        raise FacecadeError(f"{run / FOLDER} holds no pseudo-labels", f"make them: {command('pseudo-label DATA')}")
    return read_extra(run / FOLDER)


def make_pseudo_labels(probability: np.ndarray, years: np.ndarray) -> pd.DataFrame:
    """The most probable class of N images as the columns `mask, gender, age, confidence`.

    Args:
        probability: float (N, 18).
        years: float (N,), predicted ages, NaN where there are none. They are clipped to the class's band, so that
            stages of years and of bands are trained on the same band.
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
