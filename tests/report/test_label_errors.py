"""Confident learning finds how often labels are wrong, and which."""

from __future__ import annotations

import numpy as np

from facecade.report.label_errors import LabelErrorModel, confident_joint, error_rates, posterior, thresholds


def stage_outputs(count: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds (count, 2) of two voices that err together, labels, and which of those are wrong: only of class 1, called 0."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 2, count)
    shared = generator.normal(0, 1.6, count)
    values = (2 * true - 1)[:, None] * 4 + shared[:, None] + generator.normal(0, 0.8, (count, 2))
    bad = (true == 1) & (generator.random(count) < wrong)
    return values, np.where(bad, 0, true), bad


def test_the_confident_joint_counts_what_reaches_its_threshold() -> None:
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


def test_rates_are_those_that_were_planted() -> None:
    values, given, bad = stage_outputs(4000, wrong=0.06)
    rates = LabelErrorModel.fit(values, given, 2).rates
    np.testing.assert_allclose(rates.sum(0), 1)
    assert abs(rates[0, 1] - 0.06) < 0.02 and rates[1, 0] < 0.015
    assert bad.sum() > 80


def test_a_probability_is_as_often_right_as_it_says() -> None:
    values, given, bad = stage_outputs(4000, wrong=0.05, seed=1)
    half = np.arange(len(given)) % 2 == 0
    doubt = LabelErrorModel.fit(values[half], given[half], 2)
    score = 1 - doubt.posterior(values[~half], given[~half])[np.arange((~half).sum()), given[~half]]
    assert abs(score.sum() - bad[~half].sum()) < 0.35 * bad[~half].sum()
    assert bad[~half][score > 0.9].mean() > 0.85 and bad[~half][score < 0.1].mean() < 0.01


def test_where_nothing_is_known_little_is_claimed() -> None:
    generator = np.random.default_rng(2)
    values, given = generator.normal(size=(400, 2)), generator.integers(0, 2, 400)
    doubt = LabelErrorModel.fit(values, given, 2)
    assert (1 - np.diagonal(doubt.rates)).max() < 0.25
    assert (doubt.posterior(values, given)[np.arange(400), given] < 0.5).mean() < 0.02


def test_one_class_alone_is_never_doubted() -> None:
    doubt = LabelErrorModel.fit(np.random.default_rng(3).normal(size=(50, 2)), np.zeros(50, int), 2)
    assert doubt.probability(np.zeros((1, 2)))[0, 0] > 0.9


def test_the_posterior_weighs_a_label_by_how_often_it_is_wrong() -> None:
    rates = np.array([[0.99, 0.02], [0.01, 0.98]])
    found = posterior(np.array([[0.01, 0.99]]), np.array([0]), rates)
    np.testing.assert_allclose(found, [[0.01 * 0.99, 0.99 * 0.02] / np.float64(0.01 * 0.99 + 0.99 * 0.02)])
