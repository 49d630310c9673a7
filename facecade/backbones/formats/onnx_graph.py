"""ONNX graphs: their constants by name; 8-bit constants are dequantized."""

from __future__ import annotations

from typing import Any

import numpy as np

from facecade.base.errors import FacecadeError

DTYPES = (np.float16, np.float32, np.int8, np.uint8, np.int64)


def read_constants(data: bytes) -> dict[str, np.ndarray]:
    """The constants of a graph. A block-quantized `W_quantized` with `W_scales` and `W_zero_point` (DequantizeLinear of
    ONNX opset 21) is returned as `W`, float32.

    Raises:
        ValueError: not an ONNX file, or the length of a constant does not match its shape.
        FacecadeError: onnx is not installed.
    """
    onnx, model = _read(data)
    try:
        return _constants(onnx, model)
    except (IndexError, TypeError) as error:
        raise ValueError(str(error)) from None


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a model; errors as of `read_constants`."""
    return {each.key: each.value for each in _read(data)[1].metadata_props}


def _read(data: bytes) -> tuple[Any, Any]:
    """The package onnx, and the model."""
    try:
        import onnx
    except ImportError:
        raise FacecadeError("reading ONNX needs the package onnx", "pip install onnx") from None
    try:
        return onnx, onnx.load_model_from_string(data)
    except Exception as error:  # protobuf has no common error type
        raise ValueError(f"not an ONNX file ({error})") from None


def _constants(onnx: Any, model: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{tensor.name} is in another file")
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.type in DTYPES:
            arrays[tensor.name] = values
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        values, scales, zeros = (arrays[name].astype(np.float32) for name in node.input)
        arrays[node.output[0].removesuffix("_dequantized")] = _dequantize(
            values, scales, zeros, attributes.get("axis", 1), attributes.get("block_size", 0)
        )
    return arrays


def _dequantize(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Dequantize 8-bit values; `block` values along an axis share a scale."""
    if block < 1:
        raise ValueError("8-bit values are not quantized in blocks")
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"axis {axis} of values with {values.ndim} axes")
    shape = list(values.shape)
    shape[axis] = -(-shape[axis] // block)
    if list(scales.shape) != shape or list(zeros.shape) != shape:
        raise ValueError("the shapes of scales and zero points do not fit the values")
    block_index = np.arange(values.shape[axis]) // block
    return (values - zeros.take(block_index, axis)) * scales.take(block_index, axis)
