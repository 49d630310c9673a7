"""No person is in two folds, and every fold has the strata of the whole table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecade.base.errors import FacecadeError
from facecade.faces.split import assign_folds, folds_hash


def table_of(people: int, images: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    gender = np.array(["male", "female"])[np.arange(people) % 2]
    age = np.array([20, 45, 70])[np.arange(people) // 2 % 3]
    rows = pd.DataFrame({"person": [f"p{i}" for i in range(people)], "gender": gender, "age": age.astype(float)})
    return rows.loc[rows.index.repeat(images)].sample(frac=1, random_state=int(generator.integers(1 << 31)))


@given(st.integers(30, 120), st.integers(1, 7), st.integers(2, 5), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_no_person_is_in_two_folds_and_strata_are_even(people: int, images: int, folds: int, seed: int) -> None:
    table = table_of(people, images, seed)
    table["fold"] = assign_folds(table, folds, seed)
    assert (table.groupby("person")["fold"].nunique() == 1).all()
    counts = table.drop_duplicates("person").groupby(["gender", "age", "fold"]).size().unstack(fill_value=0)
    assert ((counts.max(axis=1) - counts.min(axis=1)) <= 1).all()


def test_folds_do_not_depend_on_row_order() -> None:
    table = table_of(60, 3, 0)
    shuffled = table.sample(frac=1, random_state=1)
    first = table.assign(fold=assign_folds(table, 3, 5))
    second = shuffled.assign(fold=assign_folds(shuffled, 3, 5))
    assert folds_hash(first) == folds_hash(second)
    assert folds_hash(first) != folds_hash(table.assign(fold=assign_folds(table, 3, 6)))


def test_the_error_for_too_few_people_names_the_stratum() -> None:
    with pytest.raises(FacecadeError, match="female >=60: 2") as caught:
        assign_folds(table_of(12, 2, 0), 3, 0)
    assert "fewer folds" in caught.value.hint
