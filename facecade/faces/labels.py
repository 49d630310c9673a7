"""The 18 classes: mask state, gender and age band, and the class number that encodes all three."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MASKS = ("wear", "incorrect", "normal")
GENDERS = ("male", "female")
BANDS = ("<30", "30-59", ">=60")
BAND_EDGES = (30.0, 60.0)
"""Ages in years; an age belongs to the first band whose upper edge is above it."""

AXES = {"mask": MASKS, "gender": GENDERS, "age band": BANDS}
"""The three parts of a class, in the order of `decode`, with the values of each."""

N_CLASSES = len(MASKS) * len(GENDERS) * len(BANDS)


def band_of(age: ArrayLike) -> NDArray[np.int64]:
    """Age band (0, 1, 2) of ages in years."""
    return np.digitize(np.asarray(age, dtype=float), BAND_EDGES).astype(np.int64)


def encode(mask: ArrayLike, gender: ArrayLike, band: ArrayLike) -> NDArray[np.int64]:
    """Class 0..17 of mask (0..2), gender (0..1) and age band (0..2)."""
    return np.asarray(mask, np.int64) * 6 + np.asarray(gender, np.int64) * 3 + np.asarray(band, np.int64)


def decode(label: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Mask, gender and age band of classes 0..17."""
    label = np.asarray(label, np.int64)
    return label // 6, label // 3 % 2, label % 3


def class_name(label: int) -> str:
    """Name of a class, for example `wear female 30-59`."""
    mask, gender, band = decode(label)
    return f"{MASKS[int(mask)]} {GENDERS[int(gender)]} {BANDS[int(band)]}"
