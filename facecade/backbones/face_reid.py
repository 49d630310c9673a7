"""Intel's face-reidentification-retail-0095: a MobileFaceNet with squeeze-and-excitation that gives 256 numbers a face.

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

from facecade.backbones.batch_norm import put_folded
from facecade.backbones.face_network import FaceNetwork, build, configuration

BLOCKS = (
    *((64, 128, 64, 2 if first else 1) for first in (True, False, False, False, False)),
    (64, 256, 128, 2),
    *((128, 256, 128, 1) for _ in range(6)),
    (128, 512, 128, 2),
    *((128, 256, 128, 1) for _ in range(2)),
)
"""Of each block: channels before, within, after, and the stride."""

REDUCTION = 8
"""How many times fewer channels squeeze-and-excitation has within."""

# The file's own, which are read with the weights; here for a network that starts from none.
default_cfgs = generate_default_cfgs(
    {"face_reid_0095": configuration(128, (0.3217, 0.2653, 0.2528), (0.2103, 0.1836, 0.2729), first_conv="stem.0.conv")}
)


class _Slope(torch.autograd.Function):
    """A PReLU of one slope on a processor: torch's own backward pass there takes a quarter of the whole training."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(features, slope)
        return functional.leaky_relu(features, slope.item())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        features, slope = ctx.saved_tensors
        passed = torch.ops.aten.leaky_relu_backward(gradient, features, slope.item(), False)
        # Of features · gradient, `passed` has the negative part times the slope, and the rest as it is.
        lost = _dot(features, gradient) - _dot(features, passed)
        return passed, (lost / (1 - slope)).view_as(slope)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return torch.dot(*(each.permute(0, 2, 3, 1).reshape(-1) for each in (left, right)))


class OneSlope(nn.PReLU):
    """A PReLU of one slope for all channels."""

    def forward(self, features: Tensor) -> Tensor:
        quick = features.requires_grad and features.dtype == torch.float32 and features.device.type == "cpu"
        if quick and abs(self.weight.item() - 1) > 1e-3:
            return _Slope.apply(features, self.weight)  # type: ignore[no-any-return]
        return super().forward(features)


class Unit(nn.Module):
    """A convolution with its batch norm, and a PReLU of one slope but where the block ends."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = OneSlope() if act else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(features)))  # type: ignore[no-any-return]


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole map shows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.act = OneSlope()
        self.expand = nn.Conv2d(channels // REDUCTION, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.expand(self.act(self.reduce(features.mean((2, 3), keepdim=True)))).sigmoid()  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """An inverted residual with squeeze-and-excitation at its end."""

    def __init__(self, inputs: int, within: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = Unit(inputs, within, 1)
        self.depthwise = Unit(within, within, 3, stride, within)
        self.project = Unit(within, outputs, 1, act=False)
        self.se = SqueezeExcite(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.se(self.project(self.depthwise(self.expand(features))))
        return result + features if self.shortcut else result


class FaceReid(FaceNetwork):
    """The embedding is read from windows of 8×8 places, one at 128×128 pixels, and averaged over them.

    neck: whether it is; without, the mean of the map, 512 numbers, is the embedding, of images of any size.
    """

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0, neck: bool = True, in_chans: int = 3) -> None:
        super().__init__(256 if neck else 512, num_classes, drop_rate)
        self.stem = nn.Sequential(Unit(in_chans, 64, 3, 2), Unit(64, 64, 3, groups=64))
        self.blocks = nn.Sequential(*(Bottleneck(*sizes) for sizes in BLOCKS))
        self.last = Unit(128, 512, 1)
        whole = nn.Conv2d(512, 512, 8, groups=512, bias=False)
        read = nn.Sequential(whole, nn.BatchNorm2d(512), nn.Conv2d(512, 256, 1, bias=False))
        self.neck = read if neck else nn.Identity()
        self.add_classifier()

    def forward_features(self, pixels: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(pixels)))  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        return self.neck(features).mean((2, 3))  # type: ignore[no-any-return]


@register_model
def face_reid_0095(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Intel's network; the command `weights reid0095.xml` makes a file of its weights."""
    return build(FaceReid, "face_reid_0095", pretrained, **arguments)


def face_reid_tensors(constants: Sequence[tuple[str, np.ndarray]]) -> dict[str, Tensor]:
    """Constants of the OpenVINO graph, in its order (formats/openvino_ir.py) → tensors of `FaceReid`, and `mean` and `std` of its
    input; raises ValueError where it is another graph."""
    remaining = iter(constants)

    def take(user: str, shape: Sequence[int]) -> np.ndarray:
        used_by, values = next(remaining, ("nothing", np.empty(0)))
        if used_by != user or values.size != np.prod(shape):
            raise ValueError(f"{used_by} with {values.size} numbers where {user} with {np.prod(shape)} should be")
        return values.reshape(shape)

    scale, shift = take("Multiply", (1, 3, 1, 1)), take("Add", (1, 3, 1, 1))
    model = FaceReid(num_classes=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            used_by = "Convolution" if module.groups == 1 else "GroupConvolution"
            module.weight.data = torch.from_numpy(take(used_by, module.weight.shape).copy())
            if module.bias is not None:
                module.bias.data = torch.from_numpy(take("Add", module.bias.shape).copy())
        elif isinstance(module, nn.BatchNorm2d):
            values = take("Add", (module.num_features,))
            put_folded(module, np.ones_like(values), values)
        elif isinstance(module, nn.PReLU):
            module.weight.data = torch.from_numpy(take("PReLU", module.weight.shape).copy())
    if next(remaining, None):
        raise ValueError("there is more behind the network's end")
    state = model.state_dict()
    first = "stem.0.conv.weight"
    state[first] = state[first].flip(1)  # the origin reads blue, green, red
    mean, std = -shift / scale, 1 / scale
    return {**state, "mean": torch.from_numpy(mean[:, ::-1].copy()), "std": torch.from_numpy(std[:, ::-1].copy())}
