"""The score when a person labels the images of which the cascade is least confident."""

from __future__ import annotations

import numpy as np

from facecade.report.metrics import confusion, macro_f1

DEFERRED_SHARES = np.linspace(0, 0.5, 51)
"""Shares of the images that a person labels."""


def deferral_curve(label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Defer the least confident of N predictions to a person, a larger share each time; the person is assumed to be
    right.

    Returns:
        For each of DEFERRED_SHARES the macro-F1 of all N, and the share of wrong predictions among the deferred ones
        (NaN if none is deferred).
    """
    order = np.argsort(confidence, kind="stable")
    wrong = np.cumsum((label != prediction)[order])
    f1, wrong_share = [], []
    for share in DEFERRED_SHARES:
        count = round(share * len(label))
        corrected = prediction.copy()
        corrected[order[:count]] = label[order[:count]]
        f1.append(float(macro_f1(confusion(label, corrected))))
        wrong_share.append(wrong[count - 1] / count if count else np.nan)
    return np.array(f1), np.array(wrong_share)
