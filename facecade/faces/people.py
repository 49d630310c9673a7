"""The people of a sample table: their gender and age, and rows that contradict each other about them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from facecade.base.errors import excerpt
from facecade.faces.labels import band_of

AGE_RANGE_YEARS = 5.0
"""A person's ages are noted if they differ by more."""

MAX_NOTES = 20
"""People of different ages that are noted one by one."""


def people_of(table: pd.DataFrame) -> pd.DataFrame:
    """One row per person, by name: `gender` (the first that is known, else empty) and `age` (the median of the known ages,
    else NaN)."""
    known = table.assign(gender=table["gender"].where(table["gender"] != "", None))
    people = known.groupby("person", sort=True).agg(gender=("gender", "first"), age=("age", "median"))
    return people.assign(gender=people["gender"].fillna(""))


def recorded_ages(table: pd.DataFrame) -> np.ndarray:
    """The age of each person in years, as far as it is recorded; people of whom a band is known are left out."""
    return people_of(table[~table["middle"]])["age"].dropna().to_numpy(float)


def contradicting_genders(table: pd.DataFrame) -> dict[int, str]:
    """The rows of a sample table whose gender is not that of the person's first row with a gender: index → what is wrong."""
    known = table[table["gender"] != ""]
    first = known.drop_duplicates("person").set_index("person")[["gender", "where"]]
    known = known.join(first.add_suffix("_first"), on="person")
    wrong = known[known["gender"] != known["gender_first"]]
    return {
        int(row): f"person '{excerpt(person)}' is {gender} here, and {first_gender} in {place}"
        for row, person, gender, first_gender, place in zip(
            wrong.index, wrong["person"], wrong["gender"], wrong["gender_first"], wrong["where_first"], strict=True
        )
    }


def age_notes(table: pd.DataFrame) -> list[str]:
    """A line for each person whose ages differ by more than AGE_RANGE_YEARS, or lie in different bands."""
    known = table[table["age"].notna()].sort_values("age", kind="stable").groupby("person")
    ends = known.first().join(known.last().add_suffix("_last"))
    differ = (ends["age_last"] - ends["age"] > AGE_RANGE_YEARS) | (band_of(ends["age"]) != band_of(ends["age_last"]))
    ends = ends[differ].reset_index()
    lines = [
        f"person '{excerpt(person)}' is {low:g} ({low_place}) to {high:g} ({high_place}) years old; right if the images were taken"
        " years apart"
        for person, low, low_place, high, high_place in ends[
            ["person", "age", "where", "age_last", "where_last"]
        ].itertuples(index=False)
    ]
    more = len(lines) - MAX_NOTES
    return lines if more <= 0 else [*lines[:MAX_NOTES], f"and {more} more people of different ages"]
