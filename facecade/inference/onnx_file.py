"""Which ONNX files an engine may read: those that hold all their tensors.

A tensor may also name a file that it is in ("external data"). An engine would read any file of this machine that the model
names, so such models are refused before an engine sees them. The fields are those of onnx.proto, which an export is read
without: the `onnx` package is only needed to write one.
"""

from __future__ import annotations

from collections.abc import Iterator

_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""Of each message: the fields that contain messages in which a tensor may be."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Fields of a tensor; a location of 0 is the model itself."""


def require_own_tensors(model: bytes) -> None:
    """Raises ValueError for bytes that are no ONNX model, or one with external data."""
    waiting = [("model", memoryview(model))]
    has_graph = False
    while waiting:
        message, data = waiting.pop()
        for field, value in _fields(data):
            if message == "tensor":
                if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                    raise ValueError("a tensor is in another file")
            elif isinstance(value, memoryview) and field in _MESSAGES[message]:
                waiting.append((_MESSAGES[message][field], value))
                has_graph |= message == "model" and _MESSAGES[message][field] == "graph"
    if not has_graph:
        raise ValueError("it is no ONNX model")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field of a protobuf message: bytes, or a number (0 for one of fixed size)."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: memoryview | int = 0
        if kind == 0:
            value, position = _varint(data, position)
        elif kind == 2:
            size, position = _varint(data, position)
            value = data[position : position + size]
            position += size
        elif kind in (1, 5):
            position += {1: 8, 5: 4}[kind]
        else:
            raise ValueError("it is no ONNX model")
        if position > len(data):
            raise ValueError("it is cut")
        yield (key & 0xFFFFFFFF) >> 3, value  # engines read 32 bits


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of variable length, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("it is cut")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("it is no ONNX model")
