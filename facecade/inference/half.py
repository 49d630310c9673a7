"""ONNX models with float16 tensors: half the size, at the speed of float32, in which engines compute."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from facecade.base.released import HALF_SUFFIX

MIN_ELEMENTS = 1024
"""Of a tensor that is stored as float16."""


def with_half_tensors(model: Any) -> Any:
    """A copy of an ONNX model (a protobuf) whose weights are float16, each with a Cast to float32, which engines compute once, at loading.

    Vectors stay as they are: the variances of batch norm may be too small for float16. So does a tensor with a value that is too large,
    and one of few elements.
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    halved = ModelProto()
    halved.CopyFrom(model)
    casts = []
    for tensor in halved.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or prod(tensor.dims) < MIN_ELEMENTS:
            continue
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(tensor).astype(np.float16)
        if np.isfinite(values).all():
            casts.append(helper.make_node("Cast", [tensor.name + HALF_SUFFIX], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name + HALF_SUFFIX))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved
