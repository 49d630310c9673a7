"""Images without labels that another run labelled, to learn from (pseudo-labels, Lee 2013).

What a fold's models learn must not know the people they are scored on. So there is a label for each fold: that
of the other run's models, and combiner, which never saw the people of the same fold.
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
"""Where a run keeps the labels it gave."""

TYPICAL_AGE = (22.0, 45.0, 65.0)
"""Years put down for each band where no stage knows years: nothing but the band may be learned from them."""


def pseudo_text(record: Mapping[str, Any], images: int, root: Path) -> str:
    """In one line: how many, whose, and how often such labels are right."""
    right = record["held_out"]
    return (
        f"pseudo-labels: {images} images of {root}, labelled by {record['run']} at confidence"
        f" {record['confidence']:g}; of its held-out people, {right['share']:.0%} of the images reach that, and {right['accuracy']:.1%} of those labels are right"
    )


def read_pseudo(run: Path) -> ExtraData:
    """What a run labelled; raises FacecadeError where it labelled nothing."""
    if not (run / FOLDER / "labels.json").exists():
        raise FacecadeError(f"{run / FOLDER} holds no pseudo-labels", f"make them: {command('pseudo-label DATA')}")
    return read_extra(run / FOLDER)


def labels_from(probability: np.ndarray, years: np.ndarray) -> pd.DataFrame:
    """The likeliest class of N images as the columns `mask, gender, age, confidence`.

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
