"""What is gained where a person answers for the images that the cascade is least sure of."""

from __future__ import annotations

import numpy as np

from facecade.report.metrics import confusion, macro_f1

SHARES = np.linspace(0, 0.5, 51)
"""Of the images, handed to a person."""


def deferral_curve(label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hand over the least confident of N answers, a larger share each time; a person is taken to be right.

    Returns:
        For each of SHARES the macro-F1 of all N, and the share of those handed over that were answered wrongly (NaN where
        none is).
    """
    order = np.argsort(confidence, kind="stable")
    wrong = np.cumsum((label != prediction)[order])
    f1, saved = [], []
    for share in SHARES:
        count = round(share * len(label))
        mended = prediction.copy()
        mended[order[:count]] = label[order[:count]]
        f1.append(float(macro_f1(confusion(label, mended))))
        saved.append(wrong[count - 1] / count if count else np.nan)
    return np.array(f1), np.array(saved)
