"""Where a stage's network looks: attention maps by Grad-CAM (Selvaraju et al., arXiv:1610.02391)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from facecade.backbones.backbone import Backbone
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.program import install
from facecade.recipe import kind_of
from facecade.stages.fit import Fit, load_fold
from facecade.stages.stage import Stage
from facecade.training.pixels import chunk

AT_ONCE = 8
"""Crops that a network is shown at once."""

SHOWN = 0.65
"""How much of the colour covers a pixel on which everything hangs."""

Reshape = Callable[[Tensor], Tensor]


def targets(stage: Stage) -> tuple[str, ...]:
    """What a stage may be asked about: `mask`, `gender`, `age` of a joint stage; of others the one thing that they answer."""
    parts = dict.fromkeys(name.partition(".")[0] for name in stage.columns if "." in name)
    return tuple(parts) or ("age" if kind_of(stage.name).startswith("age-") else kind_of(stage.name),)


def attention(fit: Fit, crops: np.ndarray, target: str | None = None, device: torch.device | None = None) -> np.ndarray:
    """Which pixels the answer of a fitted fold's network hangs on.

    The score whose gradient is taken is the logit of the class that the network answers, or the age in years: a map of an
    age shows what makes a face look older. Maps are as coarse as the network's last feature map (a transformer's: the last
    block's patches), which is laid over the crop.

    Args:
        crops: uint8 (N, h, w, 3), RGB.
        target: one of `targets`; may be left out where there is but one.

    Returns:
        float32 (N, h, w), each map 0..1; all 0 where nothing speaks for the answer.

    Raises:
        FacecadeError: grad-cam is not installed; a backbone without a map of its image; a target that the stage does
            not answer.
    """
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        raise FacecadeError("attention maps need grad-cam", install("report")) from None

    known = targets(fit.stage)
    if target is None and len(known) == 1:
        target = known[0]
    if target not in known:
        raise unknown_name(f"target to {fit.stage.name}", target or "", known)
    backbone = load_fold(fit, device or torch.device("cpu"))
    scored = _Scored(backbone, fit.stage, target)
    layer, reshape = _layer(scored, fit.recipe.backbone, fit.recipe.size)
    maps = np.zeros(crops.shape[:3], np.float32)
    with GradCAM(scored, [layer], reshape) as cam:
        for start in range(0, len(crops), AT_ONCE):
            some = crops[start : start + AT_ONCE]
            shown = torch.from_numpy(chunk(some, fit.recipe.size, len(some)))
            found = cam(backbone.normalised(shown.to(cam.device)), [torch.sum] * len(some))
            for place, each in enumerate(found, start):
                maps[place] = cv2.resize(each, crops.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)
    return maps


def attentions(
    fits: Mapping[str, Sequence[Fit]], crops: np.ndarray, device: torch.device | None = None
) -> dict[tuple[str, str], np.ndarray]:
    """The maps (N, h, w) of every stage for every target, each the mean of what its networks show, by (stage, target).

    Args:
        fits: of each stage, those that answer.
    """
    return {
        (stage, target): np.mean([attention(fit, crops, target, device) for fit in of_stage], axis=0)
        for stage, of_stage in fits.items()
        for target in targets(of_stage[0].stage)
    }


def overlay(crop: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """A crop with its map laid over it: dark and untouched where nothing hangs on a pixel, bright where all does.

    Args:
        crop: uint8 (h, w, 3), RGB. attention: float (h, w), 0..1.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    colour = cv2.applyColorMap((attention * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = SHOWN * attention[..., None]
    return (crop * (1 - share) + colour * share).round().astype(np.uint8)


class _Scored(nn.Module):
    """A backbone that answers with the one score [B, 1] that a stage's answer to a target hangs on."""

    def __init__(self, backbone: Backbone, stage: Stage, target: str) -> None:
        super().__init__()
        self.backbone, self.stage, self.features = backbone, stage, nn.Identity()
        names = [name.removeprefix(f"{target}.") for name in stage.columns]
        asked = [place for place, name in enumerate(stage.columns) if name.startswith(f"{target}.")]
        self.columns = asked or list(range(len(names)))
        self.in_years = names[self.columns[0]] == "years"

    def forward(self, pixels: Tensor) -> Tensor:
        _, outputs = self.backbone.head(self.features(self.backbone.model.forward_features(pixels)))
        said = self.stage.logits(outputs)[:, self.columns]
        return said[:, :1] if self.in_years else said.max(1, keepdim=True).values


def _layer(scored: _Scored, name: str, size: tuple[int, int]) -> tuple[nn.Module, Reshape | None]:
    """The module whose output is the last map of the image, and what makes [B, channels, rows, columns] of it."""
    model: Any = scored.backbone.model
    with torch.inference_mode():
        blank = torch.zeros(1, *size, 3, dtype=torch.uint8, device=next(model.parameters()).device)
        shape = model.forward_features(scored.backbone.normalised(blank)).shape
    if len(shape) == 4:
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        rows, columns = shape[1:3] if last else shape[2:4]
        if rows * columns > 1:
            return scored.features, (lambda values: values.permute(0, 3, 1, 2)) if last else None
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    before = getattr(model, "num_prefix_tokens", 0)
    if len(shape) == 3 and grid and shape[1] == before + grid[0] * grid[1]:
        # Of the patches that the last block gives, a class token alone is heard; of those that it takes, all are.
        return model.blocks[-1].norm1, lambda values: values[:, before:].unflatten(1, grid).permute(0, 3, 1, 2)
    raise FacecadeError(
        f"{name} gives no map of an image of {size[0]}×{size[1]} pixels to lay attention over",
        "convolutional networks and timm's vision transformers do",
    )
