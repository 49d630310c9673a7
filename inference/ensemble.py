"""The models of every stage and fold, loaded once, and what they say of face crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from combiner.align import Alignment
from combiner.features import Voices, join
from stages.fit import Fit, load_fold
from training.predict import CHUNK, chunk, embed


class Ensemble:
    """All folds of all stages. Each crop is brought to each size that some stage wants once."""

    def __init__(
        self, fits: Mapping[str, Sequence[Fit]], alignments: Mapping[str, Alignment], device: torch.device
    ) -> None:
        """
        Args:
            fits: the fitted folds of each stage.
        """
        self.columns = {stage: folds[0].stage.columns for stage, folds in fits.items()}
        self._alignments, self._device = alignments, device
        self._members = [(fit, load_fold(fit, device)) for folds in fits.values() for fit in folds]

    def hear(self, crops: np.ndarray) -> dict[int, Voices]:
        """What each fold's models say of crops, uint8 (N, h, w, 3): voices of N rows, by fold."""
        parts = [self._hear(crops[start : start + CHUNK]) for start in range(0, len(crops), CHUNK)]
        return {fold: join([part[fold] for part in parts]) for fold in parts[0]}

    def _hear(self, crops: np.ndarray) -> dict[int, Voices]:
        sizes = {fit.recipe.size for fit, _ in self._members}
        photographs = {size: torch.from_numpy(chunk(crops, size)).to(self._device) for size in sizes}
        heard: dict[int, Voices] = {}
        for fit, backbone in self._members:
            voices = heard.setdefault(fit.fold, Voices({}, self.columns, {}))
            embedding, outputs = embed(backbone, photographs[fit.recipe.size], fit.recipe)
            name = fit.stage.name
            voices.logits[name] = fit.stage.logits(outputs[: len(crops)])
            voices.embedding[name] = self._alignments[name].apply(fit.fold, embedding)[: len(crops)]
        return heard
