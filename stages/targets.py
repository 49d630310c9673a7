"""Target classes of a sample table of N rows: float32 (N,); NaN if a label is unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of


def mask_of(table: pd.DataFrame) -> np.ndarray:
    """Mask 0..2."""
    return _class_index(table["mask"], MASKS)


def gender_of(table: pd.DataFrame) -> np.ndarray:
    """Gender 0..1."""
    return _class_index(table["gender"], GENDERS)


def age_band_of(table: pd.DataFrame) -> np.ndarray:
    """Age band 0..2."""
    return np.where(table["age"].notna(), band_of(table["age"]), np.nan).astype(np.float32)


def gender_age_of(table: pd.DataFrame) -> np.ndarray:
    """Gender × age band 0..5."""
    return gender_of(table) * len(BANDS) + age_band_of(table)


def class_of(table: pd.DataFrame) -> np.ndarray:
    """Class 0..17."""
    return mask_of(table) * len(GENDERS) * len(BANDS) + gender_age_of(table)


def _class_index(column: pd.Series, values: Sequence[str]) -> np.ndarray:
    return column.map({value: index for index, value in enumerate(values)}).to_numpy(np.float32)
