"""dlib's face recognition network: a ResNet with 29 convolutions and an embedding of 128 numbers.

Davis E. King, dlib, `dlib_face_recognition_resnet_model_v1` (2017), after He et al. (arXiv:1512.03385) with half the
filters; trained on three million images of 7,485 people. Unlike in torchvision's ResNet, convolutions with stride 2
have no padding, and their shortcut is 2×2 average pooling, padded with zeros to the same channels, rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional

from facecade.backbones.batch_norm import set_scale_and_shift
from facecade.backbones.face_network import FaceNetwork, build, default_cfg

MEAN = (122.782 / 255, 117.001 / 255, 104.298 / 255)
STD = (256 / 255, 256 / 255, 256 / 255)

default_cfgs = generate_default_cfgs({"dlib_resnet29": default_cfg(150, MEAN, STD, first_conv="stem.0")})


class Residual(nn.Module):
    """Two convolutions and a shortcut; `stride` 2 halves the feature map."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1 if stride == 1 else 0, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        result = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(features)))))
        if self.stride > 1:
            features = functional.avg_pool2d(features, 2)
            shape = [max(sides) for sides in zip(result.shape[1:], features.shape[1:], strict=True)]
            result, features = _zero_pad(result, shape), _zero_pad(features, shape)
        return self.act2(result + features)  # type: ignore[no-any-return]


def _zero_pad(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Pad a feature map with zeros at the end of each axis, to a shape (channels, rows, columns)."""
    channels, rows, columns = (target - current for target, current in zip(shape, features.shape[1:], strict=True))
    return functional.pad(features, (0, columns, 0, rows, 0, channels))


class DlibResNet(FaceNetwork):
    """`forward_features` ends at the fourth of five layers: at 150 pixels, the map of the fifth is 1×1."""

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0, in_chans: int = 3) -> None:
        super().__init__(128, num_classes, drop_rate)
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, 32, 7, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)
        )
        self.layer1 = nn.Sequential(Residual(32, 32), Residual(32, 32), Residual(32, 32))
        self.layer2 = nn.Sequential(Residual(32, 64, 2), Residual(64, 64), Residual(64, 64), Residual(64, 64))
        self.layer3 = nn.Sequential(Residual(64, 128, 2), Residual(128, 128), Residual(128, 128))
        self.layer4 = nn.Sequential(Residual(128, 256, 2), Residual(256, 256), Residual(256, 256))
        self.layer5 = Residual(256, 256, 2)
        self.embedding = nn.Linear(256, 128, bias=False)
        self.add_classifier()

    def forward_features(self, pixels: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(pixels)))))  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        return self.embedding(self.layer5(features).mean((2, 3)))  # type: ignore[no-any-return]


@register_model
def dlib_resnet29(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """dlib's network; `weights = "package"` loads those of face-recognition-models."""
    return build(DlibResNet, "dlib_resnet29", pretrained, **arguments)


def dlib_tensors(layers: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Tensor]:
    """Layers of a file (formats/dlib_file.py) → tensors of `DlibResNet`; raises ValueError for another network."""
    model = DlibResNet(num_classes=0)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module, norm, values, affine in zip(convolutions, norms, layers["con"], layers["affine"], strict=True):
        filters = module.weight.numel()
        bias, (scale, shift) = values[filters:], np.split(affine, 2)
        module.weight.data = torch.from_numpy(values[:filters].reshape(module.weight.shape).copy())
        set_scale_and_shift(norm, scale, shift + scale * bias)
    (matrix,) = layers["fc"]
    model.embedding.weight.data = torch.from_numpy(matrix.reshape(256, 128).T.copy())
    return model.state_dict()
