"""FaceRes: timm's MobileNetV1, trained on faces.

A. V. Savchenko, "Efficient facial representations for age, gender and identity recognition in organizing photo albums
using multi-output ConvNet" (arXiv:1807.07718): trained on identities of VGGFace2, then ages and genders, at 224×224.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from timm.models import create_model, generate_default_cfgs, register_model
from torch import Tensor, nn

from facecade.backbones.batch_norm import set_scale_and_shift
from facecade.backbones.face_network import default_cfg

MEAN, STD = (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3

default_cfgs = generate_default_cfgs({"faceres": default_cfg(224, MEAN, STD, first_conv="conv_stem")})


@register_model
def faceres(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """timm's `mobilenetv1_100` with TensorFlow's padding; the command `weights faceres-deep.json` converts its weights.

    Raises:
        RuntimeError: `pretrained` is true; timm raises the same for other models without weights on a hub.
    """
    if pretrained:
        raise RuntimeError("no hub has weights of faceres")
    given = {name: value for name, value in arguments.items() if value is not None}  # timm passes None for defaults
    settings = {"pad_type": "same", "pretrained_cfg": default_cfgs["faceres"].default, **given}
    return create_model("mobilenetv1_100", pretrained=False, **settings)  # type: ignore[no-any-return]


def faceres_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays of the TensorFlow.js graph by name (formats/tfjs.py) → tensors of `faceres`, without its classifier.

    Raises:
        KeyError, ValueError: another graph.
    """
    model: Any = faceres(num_classes=0)
    stem = arrays["conv1/convolution/merged_input"][:, :, ::-1]  # the original network expects BGR
    _set_conv_and_norm(model.conv_stem, model.bn1, stem.transpose(3, 2, 0, 1), None, arrays["conv1_bn/batchnorm_1/sub"])
    blocks = [block for stage in model.blocks for block in stage]
    for number, block in enumerate(blocks, start=1):
        names = [f"conv_dw_{number}", f"conv_pw_{number}"]
        depthwise = arrays[f"{names[0]}/depthwise_kernel"].transpose(2, 3, 0, 1)
        scale, shift = (arrays[f"{names[0]}_bn/batchnorm_1/{part}"] for part in ("mul", "sub"))
        _set_conv_and_norm(block.conv_dw, block.bn1, depthwise, scale, shift)
        pointwise = arrays[f"{names[1]}/convolution/merged_input"].transpose(3, 2, 0, 1)
        _set_conv_and_norm(block.conv_pw, block.bn2, pointwise, None, arrays[f"{names[1]}_bn/batchnorm_1/sub"])
    return model.state_dict()  # type: ignore[no-any-return]


def _set_conv_and_norm(
    module: nn.Module, norm: nn.Module, filters: np.ndarray, scale: np.ndarray | None, shift: np.ndarray
) -> None:
    assert isinstance(module, nn.Conv2d)
    if filters.shape != module.weight.shape:
        raise ValueError(f"filters of shape {filters.shape} instead of {tuple(module.weight.shape)}")
    module.weight.data = torch.from_numpy(filters.copy())
    set_scale_and_shift(norm, np.ones_like(shift) if scale is None else scale, shift)
