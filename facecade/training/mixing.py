"""MixUp and CutMix: two images in one, and how much of each.

The loss of a mixed image is the loss for the first's labels and the loss for the second's, by their shares. For
cross-entropy and label distributions that is the same as mixing the labels; for regressors it asks for both ages
instead of one in between, which neither image shows; and it needs nothing to be known of a joint stage's parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facecade.recipe import StageRecipe


@dataclass(frozen=True)
class Mixture:
    """Mixed images float32 or uint8 [B, H, W, 3]; who the second of each is, int64 [B]; and the share of the
    first, float32 [B]."""

    images: Tensor
    partner: Tensor
    share: Tensor


def mix(images: Tensor, allowed: Tensor, recipe: StageRecipe, random: np.random.Generator) -> Mixture | None:
    """Mix a batch by the recipe; None where this batch is left alone.

    Args:
        images: uint8 [B, H, W, 3].
        allowed: bool [B], on the processor, which images may be the first of a mixture. Where only some may, the second is one of
            the others. Images that are not mixed are their own second.
    """
    if not (recipe.mixup or recipe.cutmix) or random.random() >= recipe.mix_chance:
        return None
    cut = recipe.cutmix and (not recipe.mixup or random.random() < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    count, height, width = images.shape[:3]
    partner = _partners(allowed, random).to(images.device, non_blocking=True)
    allowed = allowed.to(images.device, non_blocking=True)
    share = float(random.beta(alpha, alpha))
    if cut:  # arXiv:1905.04899
        mixed = images.clone()
        rows, columns = _box(height, width, share, random)
        mixed[:, rows, columns] = images[partner][:, rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    else:  # arXiv:1710.09412
        mixed = share * images.float() + (1 - share) * images[partner].float()
    chosen = allowed[:, None, None, None]
    shares = torch.where(allowed, torch.full((count,), share, device=images.device), 1.0)
    return Mixture(torch.where(chosen, mixed, images.to(mixed.dtype)), partner, shares)


def mean_loss(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, target: Tensor, weight: Tensor, mixture: Mixture | None
) -> Tensor:
    """The weighted mean of a batch's losses; a mixed image counts as its two, each by its share.

    Args:
        loss: (outputs [B, C], target [B] or [B, T]) → [B].
        target, weight: those of the images before they were mixed; weight float32 [B].
    """
    each = loss(outputs, target) * weight
    if mixture:
        second = loss(outputs, target[mixture.partner]) * weight[mixture.partner]
        each = torch.lerp(second, each, mixture.share)
        weight = torch.lerp(weight[mixture.partner], weight, mixture.share)
    return each.sum() / weight.sum()


def _partners(allowed: Tensor, random: np.random.Generator) -> Tensor:
    """Who the second of each mixture is, int64 [B]."""
    drawn = torch.from_numpy(random.permutation(len(allowed)))
    if allowed.all():
        return drawn
    others = drawn[~allowed[drawn]]
    partner = torch.arange(len(allowed))
    partner[allowed] = others[torch.arange(int(allowed.sum())) % len(others)]
    return partner


def _box(height: int, width: int, share: float, random: np.random.Generator) -> tuple[slice, slice]:
    """A box of 1 - share of the area around a random point, cut off at the image's edge."""
    tall, wide = height * np.sqrt(1 - share), width * np.sqrt(1 - share)
    y, x = random.integers(height), random.integers(width)
    top, bottom = np.clip([round(y - tall / 2), round(y + tall / 2)], 0, height)
    left, right = np.clip([round(x - wide / 2), round(x + wide / 2)], 0, width)
    return slice(int(top), int(bottom)), slice(int(left), int(right))
