"""The rows of an epoch depend on the seed and the epoch, and follow the recipe."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecade.recipe import StageRecipe
from facecade.training.sampling import epoch_batches, epoch_rows

PERSON = np.repeat([f"p{i}" for i in range(30)], 7)
STRATUM = np.r_[np.zeros(140), np.ones(49), np.full(21, 2)].astype(np.int64)
ROWS = np.arange(210)
OLD = STRATUM == 2


def draw(rows: np.ndarray, seed: int, epoch: int, **settings: float) -> np.ndarray:
    recipe = StageRecipe.model_validate({"backbone": "test_efficientnet", **settings})
    return epoch_rows(rows, PERSON, STRATUM, OLD, recipe, seed, epoch)


@given(st.integers(1, 6), st.integers(0, 1000), st.integers(0, 5))
def test_per_person_draws_without_replacement(count: int, seed: int, epoch: int) -> None:
    rows = draw(ROWS, seed, epoch, per_person=count)
    assert len(set(rows)) == len(rows) == 30 * count
    assert set(np.unique(PERSON[rows], return_counts=True)[1]) == {count}


def test_epochs_differ_and_are_reproducible() -> None:
    first = draw(ROWS, 1, 0)
    assert sorted(first) == list(ROWS)
    assert (first == draw(ROWS, 1, 0)).all()
    assert (first != draw(ROWS, 1, 1)).any()


def test_balance_equalizes_the_classes() -> None:
    drawn = np.concatenate([draw(ROWS, 3, epoch, balance=1.0) for epoch in range(60)])
    share = np.bincount(STRATUM[drawn]) / len(drawn)
    assert np.abs(share - 1 / 3).max() < 0.02
    half = np.concatenate([draw(ROWS, 3, epoch, balance=0.5) for epoch in range(60)])
    expected = np.sqrt([140, 49, 21]) / np.sqrt([140, 49, 21]).sum()
    assert np.abs(np.bincount(STRATUM[half]) / len(half) - expected).max() < 0.02


def test_only_given_rows_are_drawn() -> None:
    some = np.arange(0, 210, 3)
    assert set(draw(some, 0, 0, per_person=2, balance=0.5)) <= set(some)


def test_copies_of_old_repeats_rows_of_old_people() -> None:
    counts = np.bincount(draw(ROWS, 1, 0, copies_of_old=2), minlength=210)
    assert (counts[OLD] == 3).all() and (counts[~OLD] == 1).all()


@pytest.mark.parametrize(("count", "sizes"), [(7, [3, 3]), (6, [3, 3]), (2, [2])])
def test_what_is_left_over_is_dropped_unless_it_is_all(count: int, sizes: list[int]) -> None:
    batches = epoch_batches(count, 3)
    assert [len(batch) for batch in batches] == sizes
    assert np.concatenate(batches).tolist() == list(range(sum(sizes)))
