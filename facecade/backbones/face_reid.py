"""Intel's face-reidentification-retail-0095: a MobileFaceNet with squeeze-and-excitation, embedding of 256 numbers.

Open Model Zoo, after Chen et al., "MobileFaceNets" (arXiv:1804.07573), and Hu et al., "Squeeze-and-excitation networks"
(arXiv:1709.01507); trained on aligned faces of 128×128.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional

from facecade.backbones.batch_norm import set_scale_and_shift
from facecade.backbones.face_network import FaceNetwork, build, default_cfg

BLOCKS = (
    *((64, 128, 64, 2 if first else 1) for first in (True, False, False, False, False)),
    (64, 256, 128, 2),
    *((128, 256, 128, 1) for _ in range(6)),
    (128, 512, 128, 2),
    *((128, 256, 128, 1) for _ in range(2)),
)
"""For each block: input, hidden and output channels, and the stride."""

REDUCTION = 8
"""Squeeze-and-excitation has this many times fewer hidden channels."""

# The same statistics as in the weights file, for a network that starts without weights.
default_cfgs = generate_default_cfgs(
    {"face_reid_0095": default_cfg(128, (0.3217, 0.2653, 0.2528), (0.2103, 0.1836, 0.2729), first_conv="stem.0.conv")}
)


class _SingleSlopeFunction(torch.autograd.Function):
    """A PReLU with one slope, for CPUs: there, torch's own backward pass takes a quarter of the training time."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(features, slope)
        return functional.leaky_relu(features, slope.item())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        features, slope = ctx.saved_tensors
        result = torch.ops.aten.leaky_relu_backward(gradient, features, slope.item(), False)
        # Where features are negative, `result` is slope · gradient, elsewhere gradient. So the difference of the two
        # dot products is (1 - slope) times the slope's gradient.
        difference = _dot(features, gradient) - _dot(features, result)
        return result, (difference / (1 - slope)).view_as(slope)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return torch.dot(*(values.permute(0, 2, 3, 1).reshape(-1) for values in (left, right)))


class SingleSlopePReLU(nn.PReLU):
    """A PReLU with one slope for all channels."""

    def forward(self, features: Tensor) -> Tensor:
        use_function = features.requires_grad and features.dtype == torch.float32 and features.device.type == "cpu"
        if use_function and abs(self.weight.item() - 1) > 1e-3:
            return _SingleSlopeFunction.apply(features, self.weight)  # type: ignore[no-any-return]
        return super().forward(features)


class ConvNormAct(nn.Module):
    """A convolution, its batch norm, and a PReLU with one slope (none with `act` False)."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = SingleSlopePReLU() if act else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(features)))  # type: ignore[no-any-return]


class SqueezeExcite(nn.Module):
    """Channels, weighted by a function of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.act = SingleSlopePReLU()
        self.expand = nn.Conv2d(channels // REDUCTION, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.expand(self.act(self.reduce(features.mean((2, 3), keepdim=True)))).sigmoid()  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """An inverted residual block that ends with squeeze-and-excitation."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(inputs, hidden, 1)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride, hidden)
        self.project = ConvNormAct(hidden, outputs, 1, act=False)
        self.se = SqueezeExcite(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.se(self.project(self.depthwise(self.expand(features))))
        return result + features if self.shortcut else result


class FaceReid(FaceNetwork):
    """The embedding is the mean over 8×8 windows of the feature map; images of 128×128 pixels have one window.

    neck: False = the embedding is the mean of the feature map instead, 512 numbers, for images of any size.
    """

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0, neck: bool = True, in_chans: int = 3) -> None:
        super().__init__(256 if neck else 512, num_classes, drop_rate)
        self.stem = nn.Sequential(ConvNormAct(in_chans, 64, 3, 2), ConvNormAct(64, 64, 3, groups=64))
        self.blocks = nn.Sequential(*(Bottleneck(*sizes) for sizes in BLOCKS))
        self.last = ConvNormAct(128, 512, 1)
        window = nn.Conv2d(512, 512, 8, groups=512, bias=False)
        embedder = nn.Sequential(window, nn.BatchNorm2d(512), nn.Conv2d(512, 256, 1, bias=False))
        self.neck = embedder if neck else nn.Identity()
        self.add_classifier()

    def forward_features(self, pixels: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(pixels)))  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        return self.neck(features).mean((2, 3))  # type: ignore[no-any-return]


@register_model
def face_reid_0095(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Intel's network; the command `weights reid0095.xml` converts its weights."""
    return build(FaceReid, "face_reid_0095", pretrained, **arguments)


def face_reid_tensors(constants: Sequence[tuple[str, np.ndarray]]) -> dict[str, Tensor]:
    """Constants of the OpenVINO graph, in its order (formats/openvino_ir.py) → tensors of `FaceReid`, and `mean` and
    `std` of its input; raises ValueError for another graph."""
    remaining = iter(constants)

    def take(layer: str, shape: Sequence[int]) -> np.ndarray:
        found, values = next(remaining, ("nothing", np.empty(0)))
        if found != layer or values.size != np.prod(shape):
            raise ValueError(f"{found} with {values.size} numbers instead of {layer} with {np.prod(shape)}")
        return values.reshape(shape)

    scale, shift = take("Multiply", (1, 3, 1, 1)), take("Add", (1, 3, 1, 1))
    model = FaceReid(num_classes=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            layer = "Convolution" if module.groups == 1 else "GroupConvolution"
            module.weight.data = torch.from_numpy(take(layer, module.weight.shape).copy())
            if module.bias is not None:
                module.bias.data = torch.from_numpy(take("Add", module.bias.shape).copy())
        elif isinstance(module, nn.BatchNorm2d):
            values = take("Add", (module.num_features,))
            set_scale_and_shift(module, np.ones_like(values), values)
        elif isinstance(module, nn.PReLU):
            module.weight.data = torch.from_numpy(take("PReLU", module.weight.shape).copy())
    if next(remaining, None):
        raise ValueError("there are more constants after the end of the network")
    state = model.state_dict()
    name = "stem.0.conv.weight"
    state[name] = state[name].flip(1)  # the original network expects BGR
    mean, std = -shift / scale, 1 / scale
    return {**state, "mean": torch.from_numpy(mean[:, ::-1].copy()), "std": torch.from_numpy(std[:, ::-1].copy())}
