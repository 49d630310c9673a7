"""The decision weights raise macro-F1, and do not fit noise."""

import numpy as np

from facecade.combiner.decision import NO_WEIGHTS, WEIGHT_GRID, _confusions, decide, fit_weights
from facecade.report.metrics import confusion, macro_f1


def posterior(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a rare old band, and calibrated probabilities that are uncertain between the bands of a gender."""
    generator = np.random.default_rng(seed)
    prior = np.array([0.55, 0.41, 0.04])
    band = generator.choice(3, n, p=prior)
    noisy_age = np.array([24.0, 42.0, 66.0])[band] + generator.normal(0, 14, n)
    density = prior * np.exp(-((noisy_age[:, None] - [24.0, 42.0, 66.0]) ** 2) / (2 * 14**2))
    probability = np.full((n, 18), 1e-9)
    probability[:, :3] = density / density.sum(1, keepdims=True)
    return band, probability


def test_weights_raise_macro_f1_on_data_they_did_not_see() -> None:
    label, probability = posterior(6000, 0)
    weights = fit_weights(probability, label)
    new_label, new_probability = posterior(20000, 1)
    plain = macro_f1(confusion(new_label, decide(new_probability, NO_WEIGHTS)))
    weighted = macro_f1(confusion(new_label, decide(new_probability, weights)))
    assert weights[2] > 0.2 and weighted > plain + 0.01


def test_weights_stay_at_zero_without_a_gain() -> None:
    label = np.arange(3600) % 18
    assert (fit_weights(np.eye(18)[label] * 0.9 + 0.1 / 18, label) == 0).all()


def test_confusions_match_decide_at_each_grid_value() -> None:
    generator = np.random.default_rng(3)
    probability, label = generator.dirichlet(np.ones(18), 500), generator.integers(18, size=500)
    weights = generator.normal(0, 0.3, 6)
    counts = _confusions(np.log(probability + 1e-12), label, weights, group=2)
    for step, counted in zip(WEIGHT_GRID, counts, strict=True):
        weights[2] = step
        assert (counted == confusion(label, decide(probability, weights))).all()
