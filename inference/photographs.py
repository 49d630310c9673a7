"""What the fitted stages say of new photographs: one decode and one crop each, all folds, averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from base.progress import Bar
from combiner.align import Alignment
from combiner.features import Voices
from stages.fit import Fit, answer, load_fold


def listen(
    fits: Mapping[str, Sequence[Fit]],
    alignments: Mapping[str, Alignment],
    crops: np.ndarray,
    rows: np.ndarray,
    device: torch.device,
) -> Voices:
    """Ask every stage's folds about N photographs and average their aligned outputs.

    Args:
        fits: the fitted folds of each stage.
        crops: uint8 (M, h, w, 3); rows: int64 (N,), which of them.
    """
    logits: dict[str, np.ndarray] = {}
    embedding: dict[str, np.ndarray] = {}
    columns = {stage: folds[0].stage.columns for stage, folds in fits.items()}
    with Bar("infer", len(rows) * sum(map(len, fits.values())), "answers") as bar:
        for stage, folds in fits.items():
            said, placed = [], []
            for wanted in folds:
                output = answer(load_fold(wanted, device), wanted.stage, wanted.recipe, crops, rows, bar)
                said.append(output.logits)
                placed.append(alignments[stage].apply(wanted.fold, output.embedding))
            logits[stage] = np.stack(said).mean(0, dtype=np.float64).astype(np.float32)
            embedding[stage] = np.stack(placed).mean(0, dtype=np.float64).astype(np.float32)
    return Voices(logits, columns, embedding)
