"""Rows that contradict each other about a person are named."""

from __future__ import annotations

import numpy as np
import pandas as pd

from facecade.faces.people import MAX_NOTES, age_notes, contradicting_genders, people_of


def table_of(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """A sample table of (person, gender, age)."""
    table = pd.DataFrame(rows, columns=["person", "gender", "age"])
    return table.assign(where=[f"m.csv row {number + 2}" for number in range(len(table))])


def test_a_person_has_the_first_known_gender_and_the_median_age() -> None:
    people = people_of(table_of(("b", "", 30), ("a", "", np.nan), ("b", "male", np.nan), ("b", "", 36), ("b", "", 50)))
    assert people.index.tolist() == ["a", "b"] and people["gender"].tolist() == ["", "male"]
    assert np.isnan(people["age"]["a"]) and people["age"]["b"] == 36


def test_genders_that_differ_from_the_first_are_named() -> None:
    table = table_of(("a", "", 1), ("a", "male", 1), ("b", "male", 1), ("a", "female", 1), ("a", "male", 1))
    assert contradicting_genders(table) == {3: "person 'a' is female here, and male in m.csv row 3"}
    assert contradicting_genders(table[:3]) == {} == contradicting_genders(table[:0])


def test_ages_far_apart_or_across_a_band_are_noted() -> None:
    rows = [("a", "", 24), ("a", "", 61), ("a", "", np.nan), ("b", "", 29), ("b", "", 30), ("c", "", 40), ("c", "", 45)]
    notes = age_notes(table_of(*rows))
    assert notes == [
        "person 'a' is 24 (m.csv row 2) to 61 (m.csv row 3) years old; right if the images were taken years apart",
        "person 'b' is 29 (m.csv row 5) to 30 (m.csv row 6) years old; right if the images were taken years apart",
    ]
    assert age_notes(table_of(("c", "", 45.5), ("c", "", 40))) != [] == age_notes(table_of(("a", "", np.nan)))


def test_notes_are_few_and_short() -> None:
    rows = [(f"{number:02d}" + "x" * 300, "", age) for number in range(MAX_NOTES + 3) for age in (20.0, 50.0)]
    notes = age_notes(table_of(*rows))
    assert len(notes) == MAX_NOTES + 1 and notes[-1] == "and 3 more people of different ages"
    assert max(map(len, notes)) < 250
