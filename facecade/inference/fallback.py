"""bf16 first, and fp32 where that could change the answer.

What bf16 rounds off moves an answer's lead over the next class a little: by how much, is measured. Only images whose lead is
less can be answered otherwise; they are few, and their crops are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facecade.combiner.stage_outputs import StageOutputs, average_folds
from facecade.faces.reader import FaceCrop
from facecade.inference.ensemble import Ensemble
from facecade.inference.stream import BatchOutputs


@dataclass(frozen=True)
class Fallback:
    """The same networks in fp32. ensemble: gives them, and is called where some image is near another class. near: lead, in nats, below
    which it is."""

    ensemble: Callable[[], Ensemble]
    close: float


def margin_error(rough: np.ndarray, exact: np.ndarray) -> float:
    """By how much rounding moves the lead of the class that is exactly the first over that which is exactly the second, at most.

    Args:
        rough, exact: what the answer is the largest of, in nats, (N, 18).
    """
    *_, second, first = np.argsort(exact, axis=1).T
    rows = np.arange(len(exact))
    leads = [each[rows, first] - each[rows, second] for each in (rough, exact)]
    return float(np.abs(leads[0] - leads[1]).max())


def recompute_close_calls(
    batch: BatchOutputs, margin: Callable[[StageOutputs], np.ndarray], exact: Fallback
) -> BatchOutputs:
    """The same images, those near another class with what the exact networks say of them.

    Args:
        lead: how far each answer is ahead of the next class, in nats, (N,).
    """
    if not batch.seen.any():
        return batch
    close = np.flatnonzero(margin(average_folds(list(batch.stage_outputs.values()))) < exact.close)
    if not len(close):
        return batch
    crops = [face.crop for face in batch.faces if isinstance(face, FaceCrop)]
    again = exact.ensemble().predict_all(np.stack([crops[row] for row in close]))
    return BatchOutputs(
        batch.faces,
        {fold: stage_outputs.with_rows(close, again[fold]) for fold, stage_outputs in batch.stage_outputs.items()},
    )
