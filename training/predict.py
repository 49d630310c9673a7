"""Face crops → embeddings and head outputs, the same whatever the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from training.augment import resize
from training.backbone import Backbone

CHUNK = 32
"""Photographs a model sees at once. Always exactly so many (the last chunk is padded), because
kernels for another batch shape may round differently."""


def predict(
    backbone: Backbone,
    crops: np.ndarray,
    rows: np.ndarray,
    size: tuple[int, int],
    flip: bool,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed photographs.

    Args:
        backbone: in eval mode, on any device.
        crops: uint8 (M, h, w, 3), RGB, an array or a memory map.
        rows: int64 (N,), which crops.
        size: the model's input, height and width.
        flip: average over the photograph and its mirror image.
        advance: called with the number of photographs done.

    Returns:
        embedding (N, D) and head outputs (N, C), float32.
    """
    device = next(backbone.parameters()).device
    embeddings, outputs = [], []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for start in range(0, len(rows), CHUNK):
            chosen = rows[start : start + CHUNK]
            batch = np.zeros((CHUNK, *size, 3), np.uint8)
            for place, row in enumerate(chosen):
                batch[place] = resize(crops[row], size)
            photographs = torch.from_numpy(batch).to(device)
            embedding, output = backbone(photographs)
            if flip:
                mirrored = backbone(photographs.flip(2))
                embedding, output = (embedding + mirrored[0]) / 2, (output + mirrored[1]) / 2
            embeddings.append(embedding[: len(chosen)].float().cpu().numpy())
            outputs.append(output[: len(chosen)].float().cpu().numpy())
            advance(len(chosen))
    return np.concatenate(embeddings), np.concatenate(outputs)
