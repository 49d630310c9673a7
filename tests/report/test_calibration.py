"""Calibration error matches its definition."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import drawn_predictions

from facecade.faces.labels import decode
from facecade.report.calibration import by_axis, calibrate, calibration, confidence_calibration, cross_fitted


def test_calibrated_probabilities_have_no_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 200_000)
    label = (generator.random(200_000) > confidence).astype(int)
    result = calibration(np.column_stack([confidence, 1 - confidence]), label)
    assert result.error < 0.005 and result.count.sum() == 200_000
    assert np.abs(result.accuracy - result.confidence).max() < 0.01


def test_error_is_the_mean_distance_weighted_by_rows() -> None:
    probability = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 6)
    label = np.array([0, 0, 1, 1] + [1] * 6)
    assert np.isclose(calibration(probability, label).error, (4 * abs(0.9 - 0.5) + 6 * abs(0.6 - 1)) / 10)


def test_axes_are_sums_over_classes() -> None:
    probability = np.random.default_rng(0).dirichlet(np.ones(18), 5)
    mask, gender, band = decode(np.arange(18))
    axes = by_axis(probability)
    np.testing.assert_allclose(axes["mask"][:, 1], probability[:, mask == 1].sum(1))
    np.testing.assert_allclose(axes["gender"][:, 0], probability[:, gender == 0].sum(1))
    np.testing.assert_allclose(axes["age band"][:, 2], probability[:, band == 2].sum(1))


def test_overconfident_predictions_get_the_confidence_that_they_deserve() -> None:
    probability, right, person, fold = drawn_predictions(np.random.default_rng(0), 600)
    reliability = calibrate(probability, right, person, fold)
    before = confidence_calibration(probability, right).error
    after = confidence_calibration(cross_fitted(probability, right, person, fold), right).error
    assert after < 0.04 < 0.08 < before
    order = np.argsort(probability)
    assert (np.diff(reliability.confidence(probability[order])) >= 0).all(), "the order of the images stays"
    assert np.isnan(reliability.confidence(np.array([np.nan, 0.5]))).tolist() == [True, False]


def test_calibrated_probabilities_stay_as_they_are() -> None:
    generator = np.random.default_rng(1)
    probability = generator.uniform(0.3, 1, 1400)
    right = generator.random(1400) < probability
    reliability = calibrate(probability, right, np.arange(1400) // 7, np.arange(1400) // 7 % 5)
    assert np.abs(reliability.confidence(probability) - probability).max() < 0.05


def test_a_method_without_probabilities_has_its_accuracy_as_confidence() -> None:
    right = np.arange(700) % 4 > 0
    reliability = calibrate(np.ones(700), right, np.arange(700) // 7, np.arange(700) // 7 % 5)
    assert reliability.confidence(1.0) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("right", [np.ones(84, bool), np.zeros(84, bool)])
def test_a_dozen_people_without_an_error_or_without_a_success(right: np.ndarray) -> None:
    probability = np.random.default_rng(0).uniform(0.2, 1, 84)
    confidence = calibrate(probability, right, np.arange(84) // 7, np.arange(84) // 7 % 3).confidence(probability)
    assert ((confidence > 0) & (confidence < 1)).all() and (confidence[right] >= probability[right]).all()
    assert (confidence[~right] < 0.5).all()
