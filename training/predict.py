"""Face crops → embeddings and head outputs, the same whatever the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recipe import StageRecipe
from training.augment import resize

CHUNK = 32
"""Photographs a model sees at once. Always exactly so many (the last chunk is padded), because
kernels for another batch shape may round differently."""

VIEW = 0.9
"""Share of each side that a cropped view shows."""


def predict(
    backbone: torch.nn.Module,
    crops: np.ndarray,
    rows: np.ndarray,
    recipe: StageRecipe,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed photographs.

    Args:
        backbone: a `Backbone` in eval mode, on any device.
        crops: uint8 (M, h, w, 3), RGB, an array or a memory map.
        rows: int64 (N,), which crops.
        recipe: its `size`, and the `views` that are averaged, or counted where `vote` is hard.
        advance: called with the number of photographs done.

    Returns:
        embedding (N, D) and head outputs (N, C), float32.
    """
    device = next(backbone.parameters()).device
    embeddings, outputs = [], []
    for start in range(0, len(rows), CHUNK):
        chosen = rows[start : start + CHUNK]
        photographs = torch.from_numpy(chunk(crops[chosen], recipe.size)).to(device)
        embedding, output = embed(backbone, photographs, recipe)
        embeddings.append(embedding[: len(chosen)])
        outputs.append(output[: len(chosen)])
        advance(len(chosen))
    return np.concatenate(embeddings), np.concatenate(outputs)


def chunk(crops: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Up to CHUNK crops at a model's size, and black ones up to CHUNK: uint8 (CHUNK, *size, 3)."""
    batch = np.zeros((CHUNK, *size, 3), np.uint8)
    for place, crop in enumerate(crops):
        batch[place] = resize(crop, size)
    return batch


def embed(backbone: torch.nn.Module, photographs: Tensor, recipe: StageRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Embedding (CHUNK, D) and head outputs (CHUNK, C), float32, of one chunk on the model's device: its views averaged,
    or their votes counted."""
    kind = photographs.device.type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        said = [backbone(view(photographs, name)) for name in recipe.views]
        embedding = torch.stack([first.float() for first, _ in said]).mean(0)
        answers = torch.stack([second.float() for _, second in said])
        output = _votes(answers) if recipe.vote == "hard" else answers.mean(0)
    return embedding.cpu().numpy(), output.cpu().numpy()


def view(photographs: Tensor, name: str) -> Tensor:
    """One view of uint8 [B, H, W, 3]: as they are, mirrored, or nine tenths of each side, enlarged again."""
    if name == "plain":
        return photographs
    if name == "flip":
        return photographs.flip(2)
    height, width = photographs.shape[1:3]
    tall, wide = round(height * VIEW), round(width * VIEW)
    top = {"top": 0, "bottom": height - tall}.get(name, (height - tall) // 2)
    left = {"left": 0, "right": width - wide}.get(name, (width - wide) // 2)
    cut = photographs[:, top : top + tall, left : left + wide].permute(0, 3, 1, 2).float()
    return F.interpolate(cut, (height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def _votes(answers: Tensor) -> Tensor:
    """Head outputs [V, B, C] of V views → [B, C]: the logarithm of each class's share of votes, one vote spread over
    all classes so that none is impossible."""
    views, _, classes = answers.shape
    votes = F.one_hot(answers.argmax(-1), classes).sum(0)
    return torch.log((votes + 1 / classes) / (views + 1))
