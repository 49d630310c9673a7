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
    """How a batch is mixed.

    allowed: bool [B], which images are mixed. partner: int64 [B], index of each image's second image. share: float32 [B], of the
    first image. first_share: the same for the images that are mixed. box: where CutMix shows the second image; None for MixUp.
    """

    allowed: Tensor
    partner: Tensor
    share: Tensor
    first_share: float
    box: tuple[slice, slice] | None

    def images(self, images: Tensor, rows: slice = slice(None)) -> Tensor:
        """Some images of the mixed batch, float32 or uint8 [b, H, W, 3].

        Args:
            images: of the batch, uint8 [B, H, W, 3]. rows: which are mixed and returned.
        """
        first, second, chosen = images[rows], images[self.partner[rows]], self.allowed[rows, None, None, None]
        if self.box:  # arXiv:1905.04899
            mixed = first.clone()
            mixed[:, *self.box] = second[:, *self.box]
        else:  # arXiv:1710.09412
            mixed = self.first_share * first.float() + (1 - self.first_share) * second.float()
        return torch.where(chosen, mixed, first.to(mixed.dtype))


def draw_mixture(
    size: tuple[int, int], allowed: Tensor, recipe: StageRecipe, random: np.random.Generator, device: torch.device
) -> Mixture | None:
    """How to mix a batch as the recipe says; None if this batch is not mixed.

    Args:
        size: height and width of the images.
        allowed: bool [B], on the CPU, which images may be mixed. If only some may, their partners are drawn from the
            others. An image that is not mixed is its own partner.
        device: of the images.
    """
    if not (recipe.mixup or recipe.cutmix) or random.random() >= recipe.mix_chance:
        return None
    cut = recipe.cutmix and (not recipe.mixup or random.random() < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    partner = _partners(allowed, random).to(device, non_blocking=True)
    allowed = allowed.to(device, non_blocking=True)
    first_share, box = float(random.beta(alpha, alpha)), None
    if cut:
        box = _box(*size, first_share, random)
        rows, columns = box
        first_share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (size[0] * size[1])
    share = torch.where(allowed, torch.full((len(allowed),), first_share, device=device), 1.0)
    return Mixture(allowed, partner, share, first_share, box)


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
