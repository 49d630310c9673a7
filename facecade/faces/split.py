"""Folds by person, stratified by gender and age band: made once, shared by every stage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from facecade.base.artifact import digest
from facecade.base.errors import FacecadeError
from facecade.base.program import command
from facecade.base.seeding import derive
from facecade.faces.labels import BANDS, GENDERS, band_of


def assign_folds(table: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """The fold (0..folds-1, int64) of every row; all rows of a person get the same one.

    Raises:
        FacecadeError: fewer people than folds in a gender and age band, or unlabeled rows.
    """
    if (table["gender"] == "").any() or table["age"].isna().any():
        raise FacecadeError("folds need a gender and an age in every row", command("check DATA lists the rows"))
    people = table.groupby("person", sort=True).agg(gender=("gender", "first"), age=("age", "median"))
    stratum = people["gender"].map(GENDERS.index).to_numpy() * len(BANDS) + band_of(people["age"])
    counts = np.bincount(stratum, minlength=len(GENDERS) * len(BANDS))
    too_few = [f"{GENDERS[s // 3]} {BANDS[s % 3]}: {n}" for s, n in enumerate(counts) if n < folds]
    if too_few:
        raise FacecadeError(
            f"{folds} folds need at least {folds} people of every gender and age band; there are {'; '.join(too_few)}",
            "use fewer folds (--set folds=3), or more people",
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=derive(seed, "folds") % 2**32)
    fold = pd.Series(-1, index=people.index)
    for number, (_, held_out) in enumerate(splitter.split(people, stratum)):
        fold.iloc[held_out] = number
    return table["person"].map(fold).to_numpy(np.int64)


def folds_hash(table: pd.DataFrame) -> str:
    """A hash of the assignment of persons to folds."""
    pairs = table[["person", "fold"]].drop_duplicates().sort_values("person")
    return digest(pairs.to_numpy().tolist())
