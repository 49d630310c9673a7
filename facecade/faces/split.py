"""Folds by person, stratified by gender and age band: made once, shared by every stage."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from facecade.base.artifact import digest
from facecade.base.errors import FacecadeError
from facecade.base.seeding import derive
from facecade.faces.labels import BANDS, GENDERS, band_of
from facecade.faces.people import people_of

UNKNOWN = "unknown"

STRATA = [f"{gender} {band}" for gender in GENDERS for band in BANDS]
"""The groups of people whose labels are known."""

MIN_FOLDS = 3
"""Fewest folds that a recipe may have."""


def assign_folds(table: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """The fold (0..folds-1, int64) of every row; all rows of a person get the same one.

    Raises:
        FacecadeError: fewer people than folds.
    """
    people = people_of(table)
    if len(people) < folds:
        raise FacecadeError(
            f"{len(people)} people cannot be split into {folds} folds", _at_least(f"{folds} people", len(people))
        )
    stratum = pd.factorize(strata(people))[0]
    if np.bincount(stratum).max() < folds:  # scikit-learn refuses that
        stratum = np.zeros_like(stratum)
    from sklearn.model_selection import StratifiedKFold  # takes longer to import than to predict an image

    splitter = StratifiedKFold(folds, shuffle=True, random_state=derive(seed, "folds") % 2**32)
    fold = pd.Series(-1, index=people.index)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # `small_strata` says so by name
        for number, (_, held_out) in enumerate(splitter.split(people, stratum)):
            fold.iloc[held_out] = number
    return table["person"].map(fold).to_numpy(np.int64)


def small_groups(table: pd.DataFrame, folds: int) -> dict[str, int]:
    """The groups of gender and age band that are known, and the mask states, with fewer people than folds, and how many people
    each has."""
    groups = strata(people_of(table)).value_counts(sort=False)
    groups = groups[groups.index.isin(STRATA)]
    masks = table[table["mask"] != ""].groupby("mask", sort=True)["person"].nunique()
    return {str(name): int(count) for name, count in [*groups.items(), *masks.items()] if count < folds}


def small_groups_notes(table: pd.DataFrame, folds: int) -> list[str]:
    """A line on groups with fewer people than folds, which some folds cannot hold out, and what would help; none if there are
    none."""
    groups = small_groups(table, folds)
    if not groups:
        return []
    few = ", ".join(f"{name}: {count}" for name, count in groups.items())
    return [
        f"groups with fewer people than the {folds} folds: {few}; some folds hold none of them out:"
        f" {_at_least(f'{folds} people of each', min(groups.values()))}"
    ]


def _at_least(needed: str, people: int) -> str:
    """What to do about fewer people than folds."""
    return f"label at least {needed}" + (f", or use fewer folds: --set folds={people}" if people >= MIN_FOLDS else "")


def strata(people: pd.DataFrame) -> pd.Series:
    """The gender and age band of each person, as text; `unknown` where a label is missing."""
    band = np.where(people["age"].notna(), np.array(BANDS)[band_of(people["age"])], UNKNOWN)
    return people["gender"].replace("", UNKNOWN) + " " + band


def folds_hash(table: pd.DataFrame) -> str:
    """A hash of the assignment of persons to folds."""
    pairs = table[["person", "fold"]].drop_duplicates().sort_values("person")
    return digest(pairs.to_numpy().tolist())
