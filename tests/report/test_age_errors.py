"""Wrong ages stand out from errors of right ones, at every age and below a cap."""

from __future__ import annotations

import numpy as np
import pytest

from facecade.report.age_errors import AgeDoubt, Said


def people(count: int, wrong: int, cap: float | None = None, seed: int = 0) -> tuple[Said, np.ndarray, np.ndarray]:
    """What is said of people, the ages recorded, and which are wrong. The old are said with twice the error of the young."""
    generator = np.random.default_rng(seed)
    age = generator.uniform(18, 80, count)
    apart = generator.uniform(1, 5, count)
    years = 6 + 0.85 * age + generator.standard_t(8, count) * (2 + age / 20)
    bad = np.arange(count) < wrong
    recorded = np.where(bad, np.where(age < 50, age + 32, age - 32), age).round()
    return Said(years, generator.random(count), apart), np.minimum(recorded, cap or 120), bad


@pytest.mark.parametrize("cap", [None, 60.0])
def test_wrong_ages_come_first(cap: float | None) -> None:
    said, recorded, bad = people(600, 15, cap)
    doubt = AgeDoubt.fit(said, recorded, cap)
    score = doubt.wrong(said, recorded)
    assert bad[np.argsort(-score)[:22]].sum() >= 14
    assert 8 < score.sum() < 28


@pytest.mark.parametrize("cap", [None, 60.0])
def test_of_right_ages_few_are_doubted_and_the_old_not_more(cap: float | None) -> None:
    said, recorded, _ = people(800, 0, cap, seed=3)
    doubt = AgeDoubt.fit(said, recorded, cap)
    score = doubt.wrong(said, recorded)
    assert (score > 0.5).sum() <= 4 and score.sum() < 12
    assert score[recorded >= 60].mean() < 2.5 * score.mean() + 0.01


def test_errors_reach_further_where_they_are_larger() -> None:
    said, recorded, _ = people(1500, 0, seed=4)
    doubt = AgeDoubt.fit(said, recorded, None)
    young, old = said.years < 35, said.years > 60
    assert doubt.reach(said)[old].mean() > 1.2 * doubt.reach(said)[young].mean()
    assert 0.92 < (np.abs(recorded - doubt.expected(said)) < doubt.reach(said)).mean() < 0.98


def test_who_is_recorded_at_the_cap_may_look_much_older() -> None:
    said, recorded, _ = people(600, 0, cap=60.0, seed=5)
    doubt = AgeDoubt.fit(said, recorded, 60.0)
    one = Said(np.array([72.0, 22.0]), np.array([0.5, 0.5]), np.array([3.0, 3.0]))
    older, younger = doubt.wrong(one, np.array([60.0, 60.0]))
    assert older < 0.01 and younger > 0.9
