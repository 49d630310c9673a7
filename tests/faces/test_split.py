"""No person is in two folds, and every fold has the strata of the whole table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecade.base.errors import FacecadeError
from facecade.faces.people import people_of
from facecade.faces.split import assign_folds, folds_hash, small_groups, strata


def table_of(people: int, images: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    gender = np.array(["male", "female"])[np.arange(people) % 2]
    age = np.array([20, 45, 70])[np.arange(people) // 2 % 3]
    rows = pd.DataFrame(
        {"person": [f"p{i}" for i in range(people)], "gender": gender, "age": age.astype(float), "mask": "wear"}
    )
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


def test_folds_of_labelled_people_do_not_change() -> None:
    """The hash is of folds drawn before labels could be unknown."""
    table = table_of(60, 3, 0)
    assert folds_hash(table.assign(fold=assign_folds(table, 3, 5))) == "7640869061d9db85"


def test_small_groups_are_split_and_named() -> None:
    table = table_of(14, 2, 0)
    fold = assign_folds(table, 3, 0)
    assert set(fold) == {0, 1, 2}
    assert small_groups(table, 3) == {"male 30-59": 2, "female 30-59": 2, "male >=60": 2, "female >=60": 2}
    assert small_groups(table_of(60, 1, 0), 3) == {}


@pytest.mark.parametrize("people", [3, 4, 5])
def test_people_of_single_groups_are_split(people: int) -> None:
    table = table_of(people, 2, 0)
    assert set(assign_folds(table, 3, 0)) == {0, 1, 2}


def test_unknown_labels_are_groups_of_their_own() -> None:
    table = table_of(72, 3, 0)
    table["age"] = table["age"].mask(table["person"].isin([f"p{i}" for i in range(0, 72, 3)]))
    table["gender"] = table["gender"].mask(table["person"].isin([f"p{i}" for i in range(0, 72, 4)]), "")
    table["fold"] = assign_folds(table, 3, 7)
    assert (table.groupby("person")["fold"].nunique() == 1).all()
    people = table.drop_duplicates("person")
    group = strata(people_of(table)).loc[people["person"]].to_numpy()
    assert {"unknown unknown", "male unknown", "unknown 30-59"} <= set(group)
    counts = pd.crosstab(group, people["fold"].to_numpy())
    assert ((counts.max(axis=1) - counts.min(axis=1)) <= 1).all()


@pytest.mark.parametrize(
    ("people", "folds", "hint"),
    [
        (2, 3, "label at least 3 people"),
        (4, 5, "label at least 5 people, or use fewer folds: --set folds=4"),
        (3, 4, "--set folds=3"),
    ],
)
def test_fewer_people_than_folds_are_refused(people: int, folds: int, hint: str) -> None:
    with pytest.raises(FacecadeError, match=f"{people} people cannot be split into {folds} folds") as caught:
        assign_folds(table_of(people, 2, 0), folds, 0)
    assert hint in caught.value.hint
