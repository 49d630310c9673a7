"""OpenVINO's intermediate representation: an XML of layers, and a file with their constants beside it."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from facecade.base.files import read_bytes

MAX_XML_BYTES, MAX_FILE_BYTES = 16 << 20, 512 << 20

TYPES = {"f16": "<f2", "f32": "<f4"}


def read_constants(path: Path) -> list[tuple[str, np.ndarray]]:
    """The constants that layers compute with, in the graph's order: the type of the layer, and the numbers, float32.

    Raises:
        ValueError: no such graph, or constants that the file does not hold.
        FacecadeError: a file that is missing, or too large.
    """
    text = read_bytes(path, MAX_XML_BYTES)
    if not text.lstrip().startswith(b"<") or b"\0" in text:
        raise ValueError("no XML in UTF-8")
    if b"<!" in text:  # an entity may stand for gigabytes; OpenVINO writes none
        raise ValueError("it declares entities or comments, as no graph of OpenVINO does")
    try:
        graph = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    data = read_bytes(path.with_suffix(".bin"), MAX_FILE_BYTES)
    layers = {layer.get("id", ""): layer for layer in graph.iterfind("layers/layer")}
    inputs: dict[str, list[tuple[int, str]]] = {}
    for edge in graph.iterfind("edges/edge"):
        place = int(edge.get("to-port", "0")), edge.get("from-layer", "")
        inputs.setdefault(edge.get("to-layer", ""), []).append(place)

    known: dict[str, np.ndarray | None] = {}  # many layers may compute with one constant
    taken = 0

    def constant(number: str) -> np.ndarray | None:
        nonlocal taken
        layer = layers.get(number)
        if layer is not None and layer.get("type") == "Convert":
            number = inputs.get(number, [(0, "")])[0][1]
            layer = layers.get(number)
        if number not in known:
            values = _numbers(layer, data) if layer is not None and layer.get("type") == "Const" else None
            known[number], taken = values, taken + (0 if values is None else values.nbytes)
            if taken > 2 * MAX_FILE_BYTES:
                raise ValueError(f"constants of more than {2 * MAX_FILE_BYTES:,} bytes")
        return known[number]

    found = []
    for number, layer in layers.items():
        if layer.get("type") in ("Const", "Convert", "Parameter", "Result"):
            continue
        for _, source in sorted(inputs.get(number, [])):
            if (values := constant(source)) is not None:
                found.append((layer.get("type", ""), values))
    return found


def _numbers(layer: ElementTree.Element, data: bytes) -> np.ndarray | None:
    """A constant's numbers, float32; None where it holds no fractions, as indices do."""
    said = layer.find("data")
    if said is None or said.get("element_type") not in TYPES:
        return None
    kind = np.dtype(TYPES[str(said.get("element_type"))])
    shape = [int(side) for side in str(said.get("shape", "")).split(",") if side.strip()]
    place, count = int(said.get("offset", "-1")), math.prod(shape)
    if min(shape, default=1) < 0 or place < 0 or place + count * kind.itemsize > len(data):
        raise ValueError(f"cut short: {layer.get('name')} wants {count} numbers at byte {place} of {len(data)}")
    return np.frombuffer(data, kind, count, place).reshape(shape).astype(np.float32)
