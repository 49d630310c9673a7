"""Alignment undoes a rotation between folds."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from facecade.combiner.align import fit_alignment

FOLD = np.arange(600) % 4


def rotated_folds(noise: float = 0.01) -> tuple[np.ndarray, list[np.ndarray]]:
    """A latent (600, 12), and four folds' embeddings of it: each rotated and shifted differently."""
    generator = np.random.default_rng(0)
    latent = generator.normal(0, 1, (600, 12)) * np.linspace(3, 0.3, 12)
    folds = []
    for number in range(4):
        rotation = ortho_group.rvs(12, random_state=number)
        folds.append(latent @ rotation + generator.normal(0, 2, 12) + generator.normal(0, noise, latent.shape))
    return latent, folds


def test_folds_agree_only_after_alignment() -> None:
    _, folds = rotated_folds()
    aligned = fit_alignment(folds, FOLD, 6)
    raw = aligned.unrotated()
    reference = aligned.apply(0, folds[0])
    for number in range(1, 4):
        assert np.abs(aligned.apply(number, folds[number]) - reference).mean() < 0.05
        assert np.abs(raw.apply(number, folds[number]) - reference).mean() > 1.0


def test_fit_uses_only_rows_that_both_folds_trained_on() -> None:
    """Held-out embeddings are shifted here; an alignment that used them would change."""
    _, folds = rotated_folds()
    shifted = [embedding + 50.0 * ((number == FOLD) | (FOLD == 0))[:, None] for number, embedding in enumerate(folds)]
    shifted[0] = folds[0] + 50.0 * (FOLD == 0)[:, None]
    expected, alignment = fit_alignment(folds, FOLD, 6), fit_alignment(shifted, FOLD, 6)
    assert alignment.matrix == pytest.approx(expected.matrix, abs=1e-4)
    assert alignment.offset == pytest.approx(expected.offset, abs=1e-3)


def test_components_hold_the_most_variance() -> None:
    latent, folds = rotated_folds()
    components = fit_alignment(folds, FOLD, 6).apply(0, folds[0])
    assert components.shape == (600, 6) and components.dtype == np.float32
    assert components.var(0).sum() == pytest.approx(latent.var(0)[:6].sum(), rel=0.1)


def test_two_folds_without_common_training_rows_align() -> None:
    _, folds = rotated_folds()
    aligned = fit_alignment(folds[:2], np.arange(600) % 2, 6)
    assert np.abs(aligned.apply(1, folds[1]) - aligned.apply(0, folds[0])).mean() < 0.05
