"""FaceRes: timm's MobileNetV1, trained on faces.

A. V. Savchenko, "Efficient facial representations for age, gender and identity recognition in organizing photo albums using
multi-output ConvNet" (arXiv:1807.07718): identities of VGGFace2, then ages and genders, at 224×224.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from timm.models import create_model, generate_default_cfgs, register_model
from torch import Tensor, nn

from facecade.backbones.batch_norm import put_folded
from facecade.backbones.face_network import configuration

MEAN, STD = (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3

default_cfgs = generate_default_cfgs({"faceres": configuration(224, MEAN, STD, first_conv="conv_stem")})


@register_model
def faceres(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """timm's `mobilenetv1_100`, padded as TensorFlow does; `python cli.py weights faceres-deep.json` makes a file of its weights.

    Raises:
        RuntimeError: weights are asked of a hub, as timm says it of other models that have none.
    """
    if pretrained:
        raise RuntimeError("no hub has weights of faceres")
    given = {name: value for name, value in arguments.items() if value is not None}  # timm names what it leaves open
    configured = {"pad_type": "same", "pretrained_cfg": default_cfgs["faceres"].default, **given}
    return create_model("mobilenetv1_100", pretrained=False, **configured)  # type: ignore[no-any-return]


def faceres_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays of the TensorFlow.js graph by name (formats/tfjs.py) → tensors of `faceres` but for its classifier; raises KeyError or
    ValueError where it is another graph."""
    model: Any = faceres(num_classes=0)
    stem = arrays["conv1/convolution/merged_input"][:, :, ::-1]  # the origin reads blue, green, red
    _put(model.conv_stem, model.bn1, stem.transpose(3, 2, 0, 1), None, arrays["conv1_bn/batchnorm_1/sub"])
    blocks = [block for stage in model.blocks for block in stage]
    for number, block in enumerate(blocks, start=1):
        names = [f"conv_dw_{number}", f"conv_pw_{number}"]
        depthwise = arrays[f"{names[0]}/depthwise_kernel"].transpose(2, 3, 0, 1)
        scale, shift = (arrays[f"{names[0]}_bn/batchnorm_1/{part}"] for part in ("mul", "sub"))
        _put(block.conv_dw, block.bn1, depthwise, scale, shift)
        pointwise = arrays[f"{names[1]}/convolution/merged_input"].transpose(3, 2, 0, 1)
        _put(block.conv_pw, block.bn2, pointwise, None, arrays[f"{names[1]}_bn/batchnorm_1/sub"])
    return model.state_dict()  # type: ignore[no-any-return]


def _put(module: nn.Module, norm: nn.Module, filters: np.ndarray, scale: np.ndarray | None, shift: np.ndarray) -> None:
    assert isinstance(module, nn.Conv2d)
    if filters.shape != module.weight.shape:
        raise ValueError(f"filters of {filters.shape} where {tuple(module.weight.shape)} should be")
    module.weight.data = torch.from_numpy(filters.copy())
    put_folded(norm, np.ones_like(shift) if scale is None else scale, shift)
