"""Face crops → embeddings and head outputs, the same whatever the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facecade.recipe import StageRecipe
from facecade.training.pixels import chunk

CHUNK = {"cpu": 8, "cuda": 128}
"""Images a model sees at once, each in all its views, by device. Always exactly so many (the last chunk is padded), because
kernels for another batch shape may round differently. What a processor reads and writes for more does not stay in its cache: 32
at once take half as long again each."""

VIEW = 0.9
"""Share of each side that a cropped view shows."""


def predict(
    backbone: torch.nn.Module,
    crops: np.ndarray,
    rows: np.ndarray,
    recipe: StageRecipe,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed images.

    Args:
        backbone: a `Backbone` in eval mode, on any device.
        crops: uint8 (M, h, w, 3), RGB, an array or a memory map.
        rows: int64 (N,), which crops.
        recipe: its `size`, and the `views` that are averaged, or counted where `vote` is hard.
        advance: called with the number of images done.

    Returns:
        embedding (N, D) and head outputs (N, C), float32.
    """
    device = next(backbone.parameters()).device
    count = CHUNK[device.type]
    embeddings, outputs = [], []
    for start in range(0, len(rows), count):
        chosen = rows[start : start + count]
        images = torch.from_numpy(chunk(crops[chosen], recipe.size, count)).to(device)
        with predicting(device):
            embedding, output = backbone(in_views(images, recipe.views))
        embeddings.append(averaged(embedding, recipe.views)[: len(chosen)].cpu().numpy())
        outputs.append(voted(output, recipe.views, recipe.vote)[: len(chosen)].cpu().numpy())
        advance(len(chosen))
    return np.concatenate(embeddings), np.concatenate(outputs)


@contextlib.contextmanager
def predicting(device: torch.device) -> Iterator[None]:
    """No gradients; in bfloat16 where that is an accelerator's own."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        yield


def in_views(images: Tensor, views: Sequence[str]) -> Tensor:
    """Images [B, H, W, 3] in V views, one view after the other: [V·B, H, W, 3]."""
    return torch.cat([view(images, name) for name in views])


def averaged(values: Tensor, views: Sequence[str]) -> Tensor:
    """What was said of V views [V·B, ...] → their mean [B, ...], float32."""
    return values.float().unflatten(0, (len(views), -1)).mean(0)


def voted(outputs: Tensor, views: Sequence[str], vote: str) -> Tensor:
    """Head outputs [V·B, C] of V views → those of the images [B, C], float32."""
    return averaged(outputs, views) if vote == "soft" else _votes(outputs.float().unflatten(0, (len(views), -1)))


def view(images: Tensor, name: str) -> Tensor:
    """One view of uint8 [B, H, W, 3]: as they are, mirrored, or nine tenths of each side, enlarged again."""
    if name == "plain":
        return images
    if name == "flip":
        return images.flip(2)
    height, width = images.shape[1:3]
    tall, wide = round(height * VIEW), round(width * VIEW)
    top = {"top": 0, "bottom": height - tall}.get(name, (height - tall) // 2)
    left = {"left": 0, "right": width - wide}.get(name, (width - wide) // 2)
    cut = images[:, top : top + tall, left : left + wide].permute(0, 3, 1, 2).float()
    return F.interpolate(cut, (height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def _votes(answers: Tensor) -> Tensor:
    """Head outputs [V, B, C] of V views → [B, C]: the logarithm of each class's share of votes, one vote spread over
    all classes so that none is impossible."""
    views, _, classes = answers.shape
    votes = F.one_hot(answers.argmax(-1), classes).sum(0)
    return torch.log((votes + 1 / classes) / (views + 1))
