"""A rotation planted between folds is undone."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from facecade.combiner.align import fit_alignment

FOLD = np.arange(600) % 4


def planted(noise: float = 0.01) -> tuple[np.ndarray, list[np.ndarray]]:
    """A latent (600, 12) and what four folds' models make of it: each rotated and moved its own way."""
    generator = np.random.default_rng(0)
    latent = generator.normal(0, 1, (600, 12)) * np.linspace(3, 0.3, 12)
    folds = []
    for number in range(4):
        rotation = ortho_group.rvs(12, random_state=number)
        folds.append(latent @ rotation + generator.normal(0, 2, 12) + generator.normal(0, noise, latent.shape))
    return latent, folds


def test_folds_agree_after_alignment_and_not_before() -> None:
    _, folds = planted()
    aligned = fit_alignment(folds, FOLD, 6)
    raw = aligned.unrotated()
    reference = aligned.apply(0, folds[0])
    for number in range(1, 4):
        assert np.abs(aligned.apply(number, folds[number]) - reference).mean() < 0.05
        assert np.abs(raw.apply(number, folds[number]) - reference).mean() > 1.0


def test_only_rows_that_both_folds_trained_on_are_used() -> None:
    """Held-out embeddings lie elsewhere; an alignment that used them would be bent by them."""
    _, folds = planted()
    bent = [embedding + 50.0 * ((number == FOLD) | (FOLD == 0))[:, None] for number, embedding in enumerate(folds)]
    bent[0] = folds[0] + 50.0 * (FOLD == 0)[:, None]
    clean, dirty = fit_alignment(folds, FOLD, 6), fit_alignment(bent, FOLD, 6)
    assert dirty.matrix == pytest.approx(clean.matrix, abs=1e-4)
    assert dirty.offset == pytest.approx(clean.offset, abs=1e-3)


def test_components_hold_the_most_variance() -> None:
    latent, folds = planted()
    kept = fit_alignment(folds, FOLD, 6).apply(0, folds[0])
    assert kept.shape == (600, 6) and kept.dtype == np.float32
    assert kept.var(0).sum() == pytest.approx(latent.var(0)[:6].sum(), rel=0.1)


def test_two_folds_share_no_training_rows_and_still_align() -> None:
    _, folds = planted()
    aligned = fit_alignment(folds[:2], np.arange(600) % 2, 6)
    assert np.abs(aligned.apply(1, folds[1]) - aligned.apply(0, folds[0])).mean() < 0.05
