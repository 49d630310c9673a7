"""Files in the formats of dlib, OpenVINO, TensorFlow.js and ONNX, with random values; and damaged copies of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from facecade.backbones.catalog import CATALOG
from facecade.backbones.dlib_resnet import DlibResNet
from facecade.backbones.face_reid import FaceReid
from facecade.backbones.faceres import faceres

PRETRAINED = {entry.backbone: entry for entry in CATALOG}

SHARED = Path(__file__).resolve().parents[3] / "shared/data/weights"


def dlib_integer(number: int) -> bytes:
    packed = number.to_bytes(max(1, (number.bit_length() + 7) // 8), "little")
    return bytes([len(packed)]) + packed


def dlib_tensor(values: Sequence[float] | np.ndarray, shape: Sequence[int] = (), version: int = 2) -> bytes:
    """A tensor with a shape; by default (size, 1, 1, 1)."""
    array = np.asarray(values, "<f4")
    header = (version, *(shape or (array.size, 1, 1, 1)))
    return b"".join(map(dlib_integer, header)) + array.tobytes()


def dlib_layer(kind: str, tensor: bytes) -> bytes:
    name = {"con": "con_4", "affine": "affine_", "fc": "fc_2"}[kind].encode()
    sizes = dlib_integer(128) + dlib_integer(256) if kind == "fc" else b""
    return b"\x01" + bytes([len(name)]) + name + sizes + tensor


def dlib_network_file(seed: int = 0) -> bytes:
    """A file of dlib's network."""
    random, parts = np.random.default_rng(seed), [b"\x01\x0bsomething_1"]
    for module in DlibResNet(num_classes=0).modules():
        if isinstance(module, nn.Conv2d):
            filters = random.normal(0, (2 / module.weight[0].numel()) ** 0.5, module.weight.numel())
            bias = random.normal(0, 0.1, module.out_channels)
            affine = np.r_[random.uniform(0.5, 1, module.out_channels), random.normal(0, 0.1, module.out_channels)]
            parts += [dlib_layer("con", dlib_tensor(np.r_[filters, bias])), dlib_layer("affine", dlib_tensor(affine))]
    matrix = random.normal(0, 0.05, (256, 128))
    return b"".join([*parts, dlib_layer("fc", dlib_tensor(matrix, (*matrix.shape, 1, 1)))])


def write_ir(folder: Path, constants: Sequence[tuple[str, np.ndarray]]) -> Path:
    """A graph with one layer per constant, of a given type; constants are float16, as OpenVINO compresses them."""
    layers, edges, data = [], [], b""
    for number, (kind, values) in enumerate(constants):
        first, shape = 3 * number, ", ".join(map(str, values.shape))
        layers += [
            f'<layer id="{first}" name="c{number}" type="Const" version="opset1">'
            f'<data element_type="f16" shape="{shape}" offset="{len(data)}" size="{2 * values.size}" /></layer>',
            f'<layer id="{first + 1}" name="v{number}" type="Convert" version="opset1" />',
            f'<layer id="{first + 2}" name="l{number}" type="{kind}" version="opset1" />',
        ]
        edges += [
            f'<edge from-layer="{first}" from-port="0" to-layer="{first + 1}" to-port="0" />',
            f'<edge from-layer="{first + 1}" from-port="1" to-layer="{first + 2}" to-port="1" />',
        ]
        data += values.astype("<f2").tobytes()
    text = f'<?xml version="1.0"?>\n<net><layers>{"".join(layers)}</layers><edges>{"".join(edges)}</edges></net>\n'
    (folder / "reid0095.xml").write_text(text)
    (folder / "reid0095.bin").write_bytes(data)
    return folder / "reid0095.xml"


def openvino_network_file(folder: Path, seed: int = 0) -> Path:
    """Files .xml and .bin of Intel's network; its input has mean 100, 110, 120 (BGR) and std 50."""
    random = np.random.default_rng(seed)

    def constants() -> Iterator[tuple[str, np.ndarray]]:
        yield "Multiply", np.full((1, 3, 1, 1), 1 / 50)
        yield "Add", -np.array([100, 110, 120]).reshape(1, 3, 1, 1) / 50
        for module in FaceReid(num_classes=0).modules():
            if isinstance(module, nn.Conv2d):
                std = (2 / module.weight[0].numel()) ** 0.5
                kind = "Convolution" if module.groups == 1 else "GroupConvolution"
                yield kind, random.normal(0, std, tuple(module.weight.shape))
                if module.bias is not None:
                    yield "Add", random.normal(0, 0.1, (1, module.out_channels, 1, 1))
            elif isinstance(module, nn.BatchNorm2d):
                yield "Add", random.normal(0, 0.1, (1, module.num_features, 1, 1))
            elif isinstance(module, nn.PReLU):
                yield "PReLU", np.full(1, 0.25)

    return write_ir(folder, list(constants()))


def write_tfjs(folder: Path, tensors: dict[str, np.ndarray], **more: Any) -> Path:
    """The JSON and .bin file of a model; `more` is added to each tensor's entry."""
    weights = [
        {"name": name, "shape": list(values.shape), "dtype": str(values.dtype), **more}
        for name, values in tensors.items()
    ]
    manifest = [{"paths": ["faceres-deep.bin"], "weights": weights}]
    (folder / "faceres-deep.json").write_text(json.dumps({"format": "graph-model", "weightsManifest": manifest}))
    (folder / "faceres-deep.bin").write_bytes(b"".join(values.tobytes() for values in tensors.values()))
    return folder / "faceres-deep.json"


def tfjs_network_file(folder: Path, seed: int = 0) -> Path:
    """Files .json and .bin of FaceRes."""
    random, model = np.random.default_rng(seed), faceres(num_classes=0)

    def filters(shape: tuple[int, ...], inputs: int) -> np.ndarray:
        return random.normal(0, (2 / inputs) ** 0.5, shape).astype(np.float32)

    def shift(channels: int) -> np.ndarray:
        return random.normal(0, 0.1, channels).astype(np.float32)

    tensors = {"conv1/convolution/merged_input": filters((3, 3, 3, 32), 27), "conv1_bn/batchnorm_1/sub": shift(32)}
    blocks = [block for stage in model.blocks for block in stage]  # type: ignore[union-attr]
    for number, block in enumerate(blocks, start=1):
        outputs, inputs = block.conv_pw.weight.shape[:2]
        tensors |= {
            f"conv_dw_{number}/depthwise_kernel": filters((3, 3, inputs, 1), 9),
            f"conv_dw_{number}_bn/batchnorm_1/mul": random.uniform(0.5, 1, inputs).astype(np.float32),
            f"conv_dw_{number}_bn/batchnorm_1/sub": shift(inputs),
            f"conv_pw_{number}/convolution/merged_input": filters((1, 1, inputs, outputs), inputs),
            f"conv_pw_{number}_bn/batchnorm_1/sub": shift(outputs),
        }
    return write_tfjs(folder, tensors)


def onnx_file(
    constants: dict[str, np.ndarray], quantized: Sequence[tuple[str, int, int]] = (), inputs: int = 3, outputs: int = 1
) -> bytes:
    """A graph with constants and DequantizeLinear nodes; quantized: name, axis and block size of each."""
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node(
            "DequantizeLinear",
            [f"{name}_{part}" for part in ("quantized", "scales", "zero_point")][:inputs],
            [f"{name}_dequantized"][:outputs],
            axis=axis,
            block_size=block,
        )
        for name, axis, block in quantized
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    return bytes(helper.make_model(helper.make_graph(nodes, "made", [], [], tensors)).SerializeToString())


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """A copy that is truncated, or has some bytes removed, repeated or changed."""
    kind, offset = random.integers(4), int(random.integers(len(data)))
    if kind == 0:
        return data[:offset]
    if kind == 1:
        return data[:offset] + data[offset + int(random.integers(1, 9)) :]
    if kind == 2:
        return data[:offset] + data[max(0, offset - int(random.integers(1, 9))) :]
    changed = bytearray(data)
    for index in random.integers(len(data), size=int(random.integers(1, 6))):
        changed[index] = random.integers(256)
    return bytes(changed)
