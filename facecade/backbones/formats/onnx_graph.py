"""ONNX graphs: their constants by name, those that are kept in 8 bits as the fractions they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from facecade.base.errors import FacecadeError

NUMBERS = (np.float16, np.float32, np.int8, np.uint8, np.int64)


def read_constants(data: bytes) -> dict[str, np.ndarray]:
    """The constants of a graph. `W_quantized` with its `W_scales` and `W_zero_point` in blocks (as DequantizeLinear has them since
    ONNX's opset 21) comes as `W`, float32.

    Raises:
        ValueError: no ONNX, or constants of another length than they say.
        FacecadeError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise FacecadeError("reading ONNX needs the package onnx", "pip install onnx") from None
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's, which has no types
        raise ValueError(f"no ONNX ({error})") from None
    try:
        return _constants(onnx, model)
    except (IndexError, TypeError) as error:
        raise ValueError(str(error)) from None


def _constants(onnx: Any, model: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{tensor.name} lies in another file")
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.type in NUMBERS:
            arrays[tensor.name] = values
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        settings = {attribute.name: attribute.i for attribute in node.attribute}
        values, scales, zeros = (arrays[name].astype(np.float32) for name in node.input)
        arrays[node.output[0].removesuffix("_dequantized")] = _fractions(
            values, scales, zeros, settings.get("axis", 1), settings.get("block_size", 0)
        )
    return arrays


def _fractions(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, axis: int, block: int) -> np.ndarray:
    """What 8-bit numbers stand for; along an axis so many of them share a scale."""
    if block < 1:
        raise ValueError("8-bit numbers that are not in blocks")
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"an axis {axis} of numbers with {values.ndim}")
    shape = list(values.shape)
    shape[axis] = -(-shape[axis] // block)
    if list(scales.shape) != shape or list(zeros.shape) != shape:
        raise ValueError("scales and zero points do not fit their numbers")
    of_block = np.arange(values.shape[axis]) // block
    return (values - zeros.take(of_block, axis)) * scales.take(of_block, axis)
