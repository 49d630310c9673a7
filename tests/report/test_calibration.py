"""Calibration error matches its definition."""

from __future__ import annotations

import numpy as np
import pytest

from facecade.faces.labels import decode, encode
from facecade.report.calibration import by_axis, calibration, sure_from
from facecade.report.deferral import DEFERRED_SHARES, deferral_curve


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


def test_deferring_wrong_and_unconfident_predictions_corrects_them() -> None:
    label = encode(np.arange(100) % 3, 0, 0)
    prediction, confidence = label.copy(), np.linspace(0.2, 1, 100)
    prediction[:10] = (label[:10] + 6) % 18
    f1, wrong_share = deferral_curve(label, prediction, confidence)
    assert f1[0] < 0.95 and f1[DEFERRED_SHARES == 0.10] == 1 and (np.diff(f1) >= 0).all()
    assert np.isnan(wrong_share[0]) and wrong_share[5] == 1 and np.isclose(wrong_share[20], 0.5)


def test_below_the_threshold_predictions_are_wrong_more_often_than_right() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 4000)
    right = rng.uniform(0, 1, 4000) < confidence
    assert sure_from(confidence, right) == pytest.approx(0.5, abs=0.05)
    overconfident = rng.uniform(0, 1, 4000) < confidence / 1.5
    threshold = sure_from(confidence, overconfident)
    assert threshold == pytest.approx(0.75, abs=0.06)
    assert overconfident[confidence < threshold].mean() < 0.5 < overconfident[confidence >= threshold].mean()


def test_the_threshold_of_predictions_that_are_all_right_or_all_wrong() -> None:
    confidence = np.array([0.3, 0.6, 0.9])
    assert sure_from(confidence, np.ones(3, bool)) == 0.3, "below that nothing was measured"
    assert sure_from(confidence, np.zeros(3, bool)) is None
