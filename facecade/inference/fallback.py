"""bf16 first, and fp32 where bf16 could change the prediction.

The rounding of bf16 changes a prediction's margin a little; the most it changes one is measured. Only images with a smaller
margin can get another prediction. They are few, and their crops are still in memory.
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
    """The same networks in fp32. ensemble: loads them; called only where needed. margin: in nats, below which they are."""

    ensemble: Callable[[], Ensemble]
    margin: float


def margin_error(rough: np.ndarray, exact: np.ndarray) -> float:
    """The most that rounding changes the margin between the best and the second class of the exact scores.

    Args:
        rough, exact: scores of the classes, in nats, (N, 18).
    """
    *_, second, first = np.argsort(exact, axis=1).T
    rows = np.arange(len(exact))
    margins = [each[rows, first] - each[rows, second] for each in (rough, exact)]
    return float(np.abs(margins[0] - margins[1]).max())


def recompute_close_calls(
    batch: BatchOutputs, margin: Callable[[StageOutputs], np.ndarray], fallback: Fallback
) -> BatchOutputs:
    """The same batch, with fp32 outputs for the images whose margin is too small.

    Args:
        margin: how far each prediction is ahead of the next class, in nats, (N,).
    """
    if not batch.readable.any():
        return batch
    close = np.flatnonzero(margin(average_folds(list(batch.stage_outputs.values()))) < fallback.margin)
    if not len(close):
        return batch
    crops = [face.crop for face in batch.faces if isinstance(face, FaceCrop)]
    exact = fallback.ensemble().predict_all(np.stack([crops[row] for row in close]))
    return BatchOutputs(
        batch.faces,
        {fold: stage_outputs.with_rows(close, exact[fold]) for fold, stage_outputs in batch.stage_outputs.items()},
    )
