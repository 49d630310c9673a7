"""Age cuts near 30 and 60, learned for macro-F1 from out-of-fold ages."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from facecade.report.metrics import confusion, macro_f1

STEP = 0.25
LOWER = np.arange(22.0, 42.0, STEP)
UPPER = np.arange(44.0, 72.0, STEP)
SMOOTH = 9
"""Cells averaged each way (about 2 years): a lone peak of the score is luck, a plateau is not."""


def fit_cuts(years: np.ndarray, band: np.ndarray) -> tuple[float, float]:
    """The two ages that best cut predicted years into bands.

    A regressor shrinks towards the mean, so the cut that serves macro-F1 is not the band's edge.

    Args:
        years: float (N,), out-of-fold predicted ages.
        band: int (N,), true bands 0, 1, 2.

    Returns:
        (lower, upper) in years: below lower is band 0, from upper on band 2.
    """
    below = np.zeros((2, max(len(LOWER), len(UPPER)), 3))
    for which, cuts in enumerate((LOWER, UPPER)):
        for name in range(3):
            below[which, : len(cuts), name] = np.searchsorted(np.sort(years[band == name]), cuts)
    first, second = below[0, : len(LOWER)], below[1, : len(UPPER)]
    counts = np.zeros((len(LOWER), len(UPPER), 3, 3))
    counts[..., 0] = first[:, None]
    counts[..., 1] = second[None] - first[:, None]
    counts[..., 2] = np.bincount(band, minlength=3) - second[None]
    surface = uniform_filter(macro_f1(counts), SMOOTH, mode="nearest")
    best = np.argwhere(surface >= surface.max() - 1e-12).mean(0)
    return float(LOWER[0] + best[0] * STEP), float(UPPER[0] + best[1] * STEP)


def count_by_cut(years: np.ndarray, band: np.ndarray, cuts: tuple[float, float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Macro-F1 of the three bands as either cut is moved and the other stays.

    Args:
        years: float (N,), predicted ages. band: int (N,), true bands.

    Returns:
        For the lower and for the upper cut: places of the cut in years (G,), and the score at each (G,).
    """

    def f1(lower: float, upper: float) -> float:
        return float(macro_f1(confusion(band, band_by_cuts(years, (lower, upper)), 3)))

    return [
        (LOWER, np.array([f1(lower, cuts[1]) for lower in LOWER])),
        (UPPER, np.array([f1(cuts[0], upper) for upper in UPPER])),
    ]


def band_by_cuts(years: np.ndarray, cuts: tuple[float, float]) -> np.ndarray:
    """Bands 0, 1, 2 of predicted years."""
    return np.digitize(years, cuts)
