"""Fitted folds as torch modules that answer for face crops, and torch as the engine that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from combiner.align import Alignment
from inference.engines import Model
from inference.ensemble import Ensemble, Member
from stages.fit import Fit, load_fold
from training.predict import CHUNK, Viewed, answering


class Answering(torch.nn.Module):
    """A fitted fold: crops, uint8 [B, h, w, 3], RGB → its embedding in the folds' shared basis [B, d] and its logits
    [B, C], float32."""

    offset: Tensor
    matrix: Tensor

    def __init__(self, fit: Fit, alignment: Alignment) -> None:
        super().__init__()
        self.viewed, self.stage = Viewed(load_fold(fit, torch.device("cpu")), fit.recipe), fit.stage
        self.register_buffer("offset", torch.from_numpy(alignment.offset[fit.fold]))
        self.register_buffer("matrix", torch.from_numpy(alignment.matrix[fit.fold]))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        return self.read(*self.viewed(crops))

    def read(self, embedding: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's embedding [B, D] in the shared basis, and its head's outputs [B, width] as logits."""
        return (embedding - self.offset) @ self.matrix, self.stage.logits(outputs)


def torch_ensemble(
    fits: Mapping[str, Sequence[Fit]], alignments: Mapping[str, Alignment], device: torch.device, streams: int
) -> Ensemble:
    """All folds of all stages, run by torch.

    Args:
        fits: the fitted folds of each stage.
        streams: networks that answer at once on a processor; an accelerator takes one after the other.
    """
    if device.type == "cpu" and streams > 1:  # each network by one thread: two of them never wait for each other
        torch.set_num_threads(1)
    members = [
        Member(stage, fit.fold, fit.recipe.size, _run(Answering(fit, alignments[stage]).to(device).eval(), device))
        for stage, folds in fits.items()
        for fit in folds
    ]
    columns = {stage: folds[0].stage.columns for stage, folds in fits.items()}
    return Ensemble(members, columns, CHUNK[device.type], streams if device.type == "cpu" else 1)


def _run(network: Answering, device: torch.device) -> Model:
    def call(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with answering(device):
            said = network.viewed(torch.from_numpy(crops).to(device))
        with torch.inference_mode():
            embedding, logits = network.read(*said)
        return embedding.cpu().numpy(), logits.cpu().numpy()

    return call
