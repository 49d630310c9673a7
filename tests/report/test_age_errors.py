"""Wrong ages rank above errors of right ones, at every age and below a cap."""

from __future__ import annotations

import numpy as np
import pytest

from facecade.report.age_errors import AgeErrorModel, AgePredictions


def people(
    count: int, wrong: int, cap: float | None = None, seed: int = 0
) -> tuple[AgePredictions, np.ndarray, np.ndarray]:
    """Predictions, recorded ages, and which are wrong. Errors for the old are twice those for the young."""
    generator = np.random.default_rng(seed)
    age = generator.uniform(18, 80, count)
    spread = generator.uniform(1, 5, count)
    years = 6 + 0.85 * age + generator.standard_t(8, count) * (2 + age / 20)
    is_wrong = np.arange(count) < wrong
    recorded = np.where(is_wrong, np.where(age < 50, age + 32, age - 32), age).round()
    return AgePredictions(years, generator.random(count), spread), np.minimum(recorded, cap or 120), is_wrong


@pytest.mark.parametrize("cap", [None, 60.0])
def test_wrong_ages_rank_first(cap: float | None) -> None:
    predictions, recorded, is_wrong = people(600, 15, cap)
    model = AgeErrorModel.fit(predictions, recorded, cap)
    score = model.error_probability(predictions, recorded)
    assert is_wrong[np.argsort(-score)[:22]].sum() >= 14
    assert 8 < score.sum() < 28


@pytest.mark.parametrize("cap", [None, 60.0])
def test_few_right_ages_score_high_and_old_ones_not_more(cap: float | None) -> None:
    predictions, recorded, _ = people(800, 0, cap, seed=3)
    model = AgeErrorModel.fit(predictions, recorded, cap)
    score = model.error_probability(predictions, recorded)
    assert (score > 0.5).sum() <= 4 and score.sum() < 12
    assert score[recorded >= 60].mean() < 2.5 * score.mean() + 0.01


def test_error_bounds_grow_with_the_errors() -> None:
    predictions, recorded, _ = people(1500, 0, seed=4)
    model = AgeErrorModel.fit(predictions, recorded, None)
    young, old = predictions.years < 35, predictions.years > 60
    assert model.error_bound(predictions)[old].mean() > 1.2 * model.error_bound(predictions)[young].mean()
    assert 0.92 < (np.abs(recorded - model.expected(predictions)) < model.error_bound(predictions)).mean() < 0.98


def test_at_the_cap_a_much_older_prediction_is_no_error() -> None:
    predictions, recorded, _ = people(600, 0, cap=60.0, seed=5)
    model = AgeErrorModel.fit(predictions, recorded, 60.0)
    two = AgePredictions(np.array([72.0, 22.0]), np.array([0.5, 0.5]), np.array([3.0, 3.0]))
    older, younger = model.error_probability(two, np.array([60.0, 60.0]))
    assert older < 0.01 and younger > 0.9
