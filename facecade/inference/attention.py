"""Attention maps of a stage's network by Grad-CAM (Selvaraju et al., arXiv:1610.02391)."""

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
from facecade.training.pixels import padded_batch

CROPS_PER_BATCH = 8
"""Face crops in a batch."""

MAX_OPACITY = 0.65
"""Opacity of the overlay where the map is 1."""

Reshape = Callable[[Tensor], Tensor]


def targets(stage: Stage) -> tuple[str, ...]:
    """The targets of a stage: `mask`, `gender`, `age` of a joint stage; the single target of any other."""
    parts = dict.fromkeys(name.partition(".")[0] for name in stage.columns if "." in name)
    return tuple(parts) or ("age" if kind_of(stage.name).startswith("age-") else kind_of(stage.name),)


def attention(fit: Fit, crops: np.ndarray, target: str | None = None, device: torch.device | None = None) -> np.ndarray:
    """Maps of the pixels that the prediction of a fitted fold's network depends on.

    The gradient is that of the predicted class's logit, or of the age in years: a map of an age shows what makes a face
    look older. The map has the resolution of the network's last feature map (of a transformer: the last block's patches)
    and is resized to the crop.

    Args:
        crops: uint8 (N, h, w, 3), RGB.
        target: one of `targets`; optional where there is only one.

    Returns:
        float32 (N, h, w), each map 0..1; all 0 where no pixel supports the prediction.

    Raises:
        FacecadeError: grad-cam is not installed; a backbone without a spatial feature map; not a target of the stage.
    """
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        raise FacecadeError("attention maps need grad-cam", install("report")) from None

    known = targets(fit.stage)
    if target is None and len(known) == 1:
        target = known[0]
    if target not in known:
        raise unknown_name(f"target of {fit.stage.name}", target or "", known)
    backbone = load_fold(fit, device or torch.device("cpu"))
    scorer = _TargetScore(backbone, fit.stage, target)
    layer, reshape = _target_layer(scorer, fit.recipe.backbone, fit.recipe.size)
    maps = np.zeros(crops.shape[:3], np.float32)
    with GradCAM(scorer, [layer], reshape) as cam:
        for start in range(0, len(crops), CROPS_PER_BATCH):
            part = crops[start : start + CROPS_PER_BATCH]
            batch = torch.from_numpy(padded_batch(part, fit.recipe.size, len(part)))
            cams = cam(backbone.normalize(batch.to(cam.device)), [torch.sum] * len(part))
            for row, each in enumerate(cams, start):
                maps[row] = cv2.resize(each, crops.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)
    return maps


def attention_maps(
    fits: Mapping[str, Sequence[Fit]], crops: np.ndarray, device: torch.device | None = None
) -> dict[tuple[str, str], np.ndarray]:
    """Maps (N, h, w) of every stage and target, each the mean over the stage's networks, by (stage, target).

    Args:
        fits: of each stage, those used for inference.
    """
    return {
        (stage, target): np.mean([attention(fit, crops, target, device) for fit in stage_fits], axis=0)
        for stage, stage_fits in fits.items()
        for target in targets(stage_fits[0].stage)
    }


def overlay(crop: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """A crop with its map laid over it: unchanged where the map is 0, bright where it is 1.

    Args:
        crop: uint8 (h, w, 3), RGB. attention: float (h, w), 0..1.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    heatmap = cv2.applyColorMap((attention * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = MAX_OPACITY * attention[..., None]
    return (crop * (1 - opacity) + heatmap * opacity).round().astype(np.uint8)


class _TargetScore(nn.Module):
    """A backbone whose output is the score [B, 1] behind a stage's prediction of a target."""

    def __init__(self, backbone: Backbone, stage: Stage, target: str) -> None:
        super().__init__()
        self.backbone, self.stage, self.features = backbone, stage, nn.Identity()
        names = [name.removeprefix(f"{target}.") for name in stage.columns]
        columns = [column for column, name in enumerate(stage.columns) if name.startswith(f"{target}.")]
        self.columns = columns or list(range(len(names)))
        self.in_years = names[self.columns[0]] == "years"

    def forward(self, pixels: Tensor) -> Tensor:
        _, outputs = self.backbone.head(self.features(self.backbone.model.forward_features(pixels)))
        logits = self.stage.logits(outputs)[:, self.columns]
        return logits[:, :1] if self.in_years else logits.max(1, keepdim=True).values


def _target_layer(scorer: _TargetScore, name: str, size: tuple[int, int]) -> tuple[nn.Module, Reshape | None]:
    """The module whose output is the last feature map, and a function that reshapes it to [B, channels, rows, columns]."""
    model: Any = scorer.backbone.model
    with torch.inference_mode():
        blank = torch.zeros(1, *size, 3, dtype=torch.uint8, device=next(model.parameters()).device)
        shape = model.forward_features(scorer.backbone.normalize(blank)).shape
    if len(shape) == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        rows, columns = shape[1:3] if channels_last else shape[2:4]
        if rows * columns > 1:
            return scorer.features, (lambda values: values.permute(0, 3, 1, 2)) if channels_last else None
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    prefix = getattr(model, "num_prefix_tokens", 0)
    if len(shape) == 3 and grid and shape[1] == prefix + grid[0] * grid[1]:
        # A head may use the class token alone of the last block's output; it depends on all patches of the block's input.
        return model.blocks[-1].norm1, lambda values: values[:, prefix:].unflatten(1, grid).permute(0, 3, 1, 2)
    raise FacecadeError(
        f"{name} has no spatial feature map for an image of {size[0]}×{size[1]} pixels",
        "convolutional networks and timm's vision transformers have one",
    )
