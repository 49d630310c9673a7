"""MixUp and CutMix: two images mixed into one.

The loss of a mixed image is the mean of the losses for both images' targets, weighted by their shares. For
cross-entropy and label distributions, this equals mixing the targets; a regressor is fitted to both ages instead of
one in between, which neither image shows. It works for a joint stage without regard to its tasks.
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
    """images: mixed, float32 or uint8 [B, H, W, 3]. partner: int64 [B], index of each image's second image.
    share: float32 [B], of the first image."""

    images: Tensor
    partner: Tensor
    share: Tensor


def mix(images: Tensor, allowed: Tensor, recipe: StageRecipe, random: np.random.Generator) -> Mixture | None:
    """Mix a batch as the recipe says; None if this batch is not mixed.

    Args:
        images: uint8 [B, H, W, 3].
        allowed: bool [B], on the CPU, which images may be mixed. If only some may, their partners are drawn from the
            others. An image that is not mixed is its own partner.
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
    """The weighted mean of a batch's losses; a mixed image counts as both of its images, each by its share.

    Args:
        loss: (outputs [B, C], target [B] or [B, T]) → [B].
        target, weight: of the images before mixing; weight float32 [B].
    """
    each = loss(outputs, target) * weight
    if mixture:
        second = loss(outputs, target[mixture.partner]) * weight[mixture.partner]
        each = torch.lerp(second, each, mixture.share)
        weight = torch.lerp(weight[mixture.partner], weight, mixture.share)
    return each.sum() / weight.sum()


def _partners(allowed: Tensor, random: np.random.Generator) -> Tensor:
    """Index of each image's partner, int64 [B]."""
    order = torch.from_numpy(random.permutation(len(allowed)))
    if allowed.all():
        return order
    others = order[~allowed[order]]
    partner = torch.arange(len(allowed))
    partner[allowed] = others[torch.arange(int(allowed.sum())) % len(others)]
    return partner


def _box(height: int, width: int, share: float, random: np.random.Generator) -> tuple[slice, slice]:
    """A box of 1 - share of the area around a random point, clipped to the image."""
    box_height, box_width = height * np.sqrt(1 - share), width * np.sqrt(1 - share)
    y, x = random.integers(height), random.integers(width)
    top, bottom = np.clip([round(y - box_height / 2), round(y + box_height / 2)], 0, height)
    left, right = np.clip([round(x - box_width / 2), round(x + box_width / 2)], 0, width)
    return slice(int(top), int(bottom)), slice(int(left), int(right))
