"""Confident learning estimates how often labels are wrong, and finds which."""

from __future__ import annotations

import numpy as np

from facecade.report.label_errors import LabelErrorModel, confident_joint, error_rates, posterior, thresholds


def simulated(count: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds (count, 2) of two stages with correlated errors, labels, and which are wrong: only class 1, labelled 0."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 2, count)
    shared = generator.normal(0, 1.6, count)
    values = (2 * true - 1)[:, None] * 4 + shared[:, None] + generator.normal(0, 0.8, (count, 2))
    is_wrong = (true == 1) & (generator.random(count) < wrong)
    return values, np.where(is_wrong, 0, true), is_wrong


def test_the_confident_joint_counts_rows_that_reach_a_threshold() -> None:
    probability = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])
    given = np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(thresholds(probability, given), [0.6, 0.775])
    # the fourth reaches neither .6 nor .775, and is not counted
    assert confident_joint(probability, given).tolist() == [[2, 1], [0, 1]]


def test_a_class_without_labels_has_no_threshold() -> None:
    probability = np.full((4, 3), 1 / 3)
    assert np.isinf(thresholds(probability, np.array([0, 0, 1, 1]))).tolist() == [False, False, True]
    rates = error_rates(probability, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(rates.sum(0), 1)


def test_rates_match_the_planted_ones() -> None:
    values, given, is_wrong = simulated(4000, wrong=0.06)
    rates = LabelErrorModel.fit(values, given, 2).rates
    np.testing.assert_allclose(rates.sum(0), 1)
    assert abs(rates[0, 1] - 0.06) < 0.02 and rates[1, 0] < 0.015
    assert is_wrong.sum() > 80


def test_posteriors_are_calibrated() -> None:
    values, given, is_wrong = simulated(4000, wrong=0.05, seed=1)
    half = np.arange(len(given)) % 2 == 0
    model = LabelErrorModel.fit(values[half], given[half], 2)
    score = 1 - model.posterior(values[~half], given[~half])[np.arange((~half).sum()), given[~half]]
    assert abs(score.sum() - is_wrong[~half].sum()) < 0.35 * is_wrong[~half].sum()
    assert is_wrong[~half][score > 0.9].mean() > 0.85 and is_wrong[~half][score < 0.1].mean() < 0.01


def test_uninformative_outputs_find_few_errors() -> None:
    generator = np.random.default_rng(2)
    values, given = generator.normal(size=(400, 2)), generator.integers(0, 2, 400)
    model = LabelErrorModel.fit(values, given, 2)
    assert (1 - np.diagonal(model.rates)).max() < 0.25
    assert (model.posterior(values, given)[np.arange(400), given] < 0.5).mean() < 0.02


def test_labels_of_a_single_class_are_right() -> None:
    model = LabelErrorModel.fit(np.random.default_rng(3).normal(size=(50, 2)), np.zeros(50, int), 2)
    assert model.probability(np.zeros((1, 2)))[0, 0] > 0.9


def test_the_posterior_weights_a_label_by_its_error_rate() -> None:
    rates = np.array([[0.99, 0.02], [0.01, 0.98]])
    result = posterior(np.array([[0.01, 0.99]]), np.array([0]), rates)
    np.testing.assert_allclose(result, [[0.01 * 0.99, 0.99 * 0.02] / np.float64(0.01 * 0.99 + 0.99 * 0.02)])
