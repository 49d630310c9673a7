"""Fit age cuts near 30 and 60 for macro-F1, on out-of-fold ages."""

from __future__ import annotations

import numpy as np

from facecade.report.metrics import confusion, macro_f1

STEP_YEARS = 0.25
LOWER_CUTS = np.arange(22.0, 42.0, STEP_YEARS)
UPPER_CUTS = np.arange(44.0, 72.0, STEP_YEARS)
SMOOTHING_CELLS = 9
"""Width of the moving average over the grid (about 2 years): an isolated peak of the score is chance, a plateau is
not."""


def fit_cuts(years: np.ndarray, band: np.ndarray) -> tuple[float, float]:
    """The two ages that split predicted years into bands best.

    A regressor shrinks towards the mean, so the best cut for macro-F1 is not the band's edge.

    Args:
        years: float (N,), out-of-fold predicted ages.
        band: int (N,), true bands 0, 1, 2.

    Returns:
        (lower, upper) in years: below lower is band 0, from upper on band 2.
    """
    below = np.zeros((2, max(len(LOWER_CUTS), len(UPPER_CUTS)), 3))
    for edge, cuts in enumerate((LOWER_CUTS, UPPER_CUTS)):
        for each in range(3):
            below[edge, : len(cuts), each] = np.searchsorted(np.sort(years[band == each]), cuts)
    first, second = below[0, : len(LOWER_CUTS)], below[1, : len(UPPER_CUTS)]
    counts = np.zeros((len(LOWER_CUTS), len(UPPER_CUTS), 3, 3))
    counts[..., 0] = first[:, None]
    counts[..., 1] = second[None] - first[:, None]
    counts[..., 2] = np.bincount(band, minlength=3) - second[None]
    from scipy.ndimage import uniform_filter  # takes longer to import than to predict an image

    surface = uniform_filter(macro_f1(counts), SMOOTHING_CELLS, mode="nearest")
    best = np.argwhere(surface >= surface.max() - 1e-12).mean(0)
    return float(LOWER_CUTS[0] + best[0] * STEP_YEARS), float(UPPER_CUTS[0] + best[1] * STEP_YEARS)


def f1_by_cut(years: np.ndarray, band: np.ndarray, cuts: tuple[float, float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Macro-F1 of the three bands as one cut moves and the other stays.

    Args:
        years: float (N,), predicted ages. band: int (N,), true bands.

    Returns:
        For the lower and for the upper cut: values of the cut in years (G,), and the score at each (G,).
    """

    def f1(lower: float, upper: float) -> float:
        return float(macro_f1(confusion(band, band_by_cuts(years, (lower, upper)), 3)))

    return [
        (LOWER_CUTS, np.array([f1(lower, cuts[1]) for lower in LOWER_CUTS])),
        (UPPER_CUTS, np.array([f1(cuts[0], upper) for upper in UPPER_CUTS])),
    ]


def band_by_cuts(years: np.ndarray, cuts: tuple[float, float]) -> np.ndarray:
    """Bands 0, 1, 2 of predicted years."""
    return np.digitize(years, cuts)
