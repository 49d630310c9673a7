"""MixUp and CutMix: two photographs in one, and how much of each.

The loss of a mixed photograph is the loss for the first's labels and the loss for the second's, by their shares. For
cross-entropy and label distributions that is the same as mixing the labels; for regressors it asks for both ages
instead of one in between, which neither photograph shows; and it needs nothing to be known of a joint stage's parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recipe import StageRecipe


@dataclass(frozen=True)
class Mixture:
    """Mixed photographs float32 or uint8 [B, H, W, 3]; who the second of each is, int64 [B]; and the share of the
    first, float32 [B]."""

    photographs: Tensor
    partner: Tensor
    share: Tensor


def mix(photographs: Tensor, allowed: Tensor, recipe: StageRecipe, random: np.random.Generator) -> Mixture | None:
    """Mix a batch by the recipe; None where this batch is left alone.

    Args:
        photographs: uint8 [B, H, W, 3].
        allowed: bool [B], which photographs may be the first of a mixture.
    """
    if not (recipe.mixup or recipe.cutmix) or random.random() >= recipe.mix_chance:
        return None
    cut = recipe.cutmix and (not recipe.mixup or random.random() < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    count, height, width = photographs.shape[:3]
    partner = torch.from_numpy(random.permutation(count)).to(photographs.device)
    share = float(random.beta(alpha, alpha))
    if cut:  # arXiv:1905.04899
        mixed = photographs.clone()
        rows, columns = _box(height, width, share, random)
        mixed[:, rows, columns] = photographs[partner][:, rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    else:  # arXiv:1710.09412
        mixed = share * photographs.float() + (1 - share) * photographs[partner].float()
    chosen = allowed[:, None, None, None]
    shares = torch.where(allowed, torch.full((count,), share, device=photographs.device), 1.0)
    return Mixture(torch.where(chosen, mixed, photographs.to(mixed.dtype)), partner, shares)


def _box(height: int, width: int, share: float, random: np.random.Generator) -> tuple[slice, slice]:
    """A box of 1 - share of the area around a random point, cut off at the photograph's edge."""
    tall, wide = height * np.sqrt(1 - share), width * np.sqrt(1 - share)
    y, x = random.integers(height), random.integers(width)
    top, bottom = np.clip([round(y - tall / 2), round(y + tall / 2)], 0, height)
    left, right = np.clip([round(x - wide / 2), round(x + wide / 2)], 0, width)
    return slice(int(top), int(bottom)), slice(int(left), int(right))
