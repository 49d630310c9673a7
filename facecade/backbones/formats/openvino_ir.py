"""OpenVINO's intermediate representation: an XML file of layers, and a .bin file with their constants."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from facecade.base.files import read_bytes

MAX_XML_BYTES, MAX_FILE_BYTES = 16 << 20, 512 << 20

DTYPES = {"f16": "<f2", "f32": "<f4"}


def read_constants(path: Path) -> list[tuple[str, np.ndarray]]:
    """The constant inputs of layers, in the graph's order: type of the layer, values as float32.

    Raises:
        ValueError: not such a graph, or a constant lies outside the .bin file.
        FacecadeError: a file is missing or too large.
    """
    text = read_bytes(path, MAX_XML_BYTES)
    if not text.lstrip().startswith(b"<") or b"\0" in text:
        raise ValueError("not an XML file in UTF-8")
    if b"<!" in text:  # an entity may expand to gigabytes; OpenVINO writes none
        raise ValueError("it has entities or comments, which OpenVINO does not write")
    try:
        graph = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    data = read_bytes(path.with_suffix(".bin"), MAX_FILE_BYTES)
    layers = {layer.get("id", ""): layer for layer in graph.iterfind("layers/layer")}
    inputs: dict[str, list[tuple[int, str]]] = {}
    for edge in graph.iterfind("edges/edge"):
        port = int(edge.get("to-port", "0")), edge.get("from-layer", "")
        inputs.setdefault(edge.get("to-layer", ""), []).append(port)

    read: dict[str, np.ndarray | None] = {}  # layers may share a constant
    total_bytes = 0

    def constant(number: str) -> np.ndarray | None:
        nonlocal total_bytes
        layer = layers.get(number)
        if layer is not None and layer.get("type") == "Convert":
            number = inputs.get(number, [(0, "")])[0][1]
            layer = layers.get(number)
        if number not in read:
            values = _values(layer, data) if layer is not None and layer.get("type") == "Const" else None
            read[number], total_bytes = values, total_bytes + (0 if values is None else values.nbytes)
            if total_bytes > 2 * MAX_FILE_BYTES:
                raise ValueError(f"its constants have more than {2 * MAX_FILE_BYTES:,} bytes")
        return read[number]

    constants = []
    for number, layer in layers.items():
        if layer.get("type") in ("Const", "Convert", "Parameter", "Result"):
            continue
        for _, source in sorted(inputs.get(number, [])):
            if (values := constant(source)) is not None:
                constants.append((layer.get("type", ""), values))
    return constants


def _values(layer: ElementTree.Element, data: bytes) -> np.ndarray | None:
    """The values of a constant, float32; None if it has another type, for example indices."""
    attributes = layer.find("data")
    if attributes is None or attributes.get("element_type") not in DTYPES:
        return None
    dtype = np.dtype(DTYPES[str(attributes.get("element_type"))])
    shape = [int(side) for side in str(attributes.get("shape", "")).split(",") if side.strip()]
    offset, count = int(attributes.get("offset", "-1")), math.prod(shape)
    if min(shape, default=1) < 0 or offset < 0 or offset + count * dtype.itemsize > len(data):
        raise ValueError(f"cut short: {layer.get('name')} needs {count} values at byte {offset} of {len(data)}")
    return np.frombuffer(data, dtype, count, offset).reshape(shape).astype(np.float32)
