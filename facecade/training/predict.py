"""Face crops → embeddings and head outputs, independent of the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facecade.recipe import StageRecipe
from facecade.training.pixels import padded_batch

IMAGES_PER_CHUNK = {"cpu": 8, "cuda": 128, "mps": 32}
"""Images in a batch, each in all its views, by device. Always exactly this many (the last chunk is padded), because
kernels for another batch shape may round differently. On a CPU, larger batches do not fit its cache: with 32, an image
takes 1.5 times as long."""

VIEW_SHARE = 0.9
"""Share of the height and of the width that a cropped view keeps."""


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
        recipe: its `size`, and the `views`, which are averaged, or vote if `vote` is hard.
        advance: called with the number of images that were just computed.

    Returns:
        embedding (N, D) and head outputs (N, C), float32.
    """
    device = next(backbone.parameters()).device
    count = IMAGES_PER_CHUNK[device.type]
    embeddings, outputs = [], []
    for start in range(0, len(rows), count):
        chosen = rows[start : start + count]
        images = torch.from_numpy(padded_batch(crops[chosen], recipe.size, count)).to(device)
        with inference_context(device):
            embedding, output = backbone(stack_views(images, recipe.views))
        embeddings.append(mean_over_views(embedding, recipe.views)[: len(chosen)].cpu().numpy())
        outputs.append(combine_views(output, recipe.views, recipe.vote)[: len(chosen)].cpu().numpy())
        advance(len(chosen))
    return np.concatenate(embeddings), np.concatenate(outputs)


@contextlib.contextmanager
def inference_context(device: torch.device) -> Iterator[None]:
    """No gradients; bfloat16 autocast on a GPU."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        yield


def stack_views(images: Tensor, views: Sequence[str]) -> Tensor:
    """Images [B, H, W, 3] → V views of them, one view after the other: [V·B, H, W, 3]."""
    return torch.cat([make_view(images, name) for name in views])


def mean_over_views(values: Tensor, views: Sequence[str]) -> Tensor:
    """Values of V views [V·B, ...] → their mean [B, ...], float32."""
    return values.float().unflatten(0, (len(views), -1)).mean(0)


def combine_views(outputs: Tensor, views: Sequence[str], vote: str) -> Tensor:
    """Head outputs [V·B, C] of V views → [B, C], float32: the mean, or for a hard vote `_vote_log_shares`."""
    return (
        mean_over_views(outputs, views)
        if vote == "soft"
        else _vote_log_shares(outputs.float().unflatten(0, (len(views), -1)))
    )


def make_view(images: Tensor, name: str) -> Tensor:
    """One view of uint8 [B, H, W, 3]: unchanged, mirrored, or a crop of VIEW_SHARE of each side, resized back."""
    if name == "plain":
        return images
    if name == "flip":
        return images.flip(2)
    height, width = images.shape[1:3]
    crop_height, crop_width = round(height * VIEW_SHARE), round(width * VIEW_SHARE)
    top = {"top": 0, "bottom": height - crop_height}.get(name, (height - crop_height) // 2)
    left = {"left": 0, "right": width - crop_width}.get(name, (width - crop_width) // 2)
    crop = images[:, top : top + crop_height, left : left + crop_width].permute(0, 3, 1, 2).float()
    return F.interpolate(crop, (height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def _vote_log_shares(outputs: Tensor) -> Tensor:
    """Head outputs [V, B, C] of V views → [B, C]: the logarithm of each class's share of votes; one more vote is
    spread over all classes, so that no share is zero."""
    views, _, classes = outputs.shape
    votes = F.one_hot(outputs.argmax(-1), classes).sum(0)
    return torch.log((votes + 1 / classes) / (views + 1))
