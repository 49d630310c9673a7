"""Fitted cuts match planted ones."""

import numpy as np
import pytest

from facecade.combiner.cuts import band_by_cuts, fit_cuts


@pytest.mark.parametrize(("low", "high"), [(30.0, 60.0), (33.0, 54.5), (27.5, 50.0)])
def test_a_planted_cut_is_recovered(low: float, high: float) -> None:
    generator = np.random.default_rng(0)
    years = generator.uniform(18, 80, 6000)
    band = band_by_cuts(years + generator.normal(0, 1.5, len(years)), (low, high))
    cuts = fit_cuts(years, band)
    assert cuts == pytest.approx((low, high), abs=0.75)


def test_shrunken_ages_move_the_cuts_inwards() -> None:
    generator = np.random.default_rng(1)
    age = generator.uniform(18, 80, 6000)
    years = 42 + 0.6 * (age - 42) + generator.normal(0, 1, len(age))
    low, high = fit_cuts(years, np.digitize(age, [30, 60]))
    assert low == pytest.approx(42 + 0.6 * (30 - 42), abs=1) and high == pytest.approx(42 + 0.6 * (60 - 42), abs=1)


def test_cuts_maximize_macro_f1_not_accuracy() -> None:
    """With a rare old band the best cut for macro-F1 is lower than the most accurate one."""
    generator = np.random.default_rng(2)
    band = np.r_[np.zeros(500, int), np.ones(4000, int), np.full(150, 2)]
    years = np.array([24.0, 42.0, 64.0])[band] + generator.normal(0, 8, len(band))
    _, high = fit_cuts(years, band)
    uppers = np.arange(44, 72, 0.25)
    accuracy = [(band_by_cuts(years, (30, upper)) == band).mean() for upper in uppers]
    assert high < uppers[int(np.argmax(accuracy))]
