"""dlib's serialized networks: layers in order from the input, each with a tensor of its parameters."""

from __future__ import annotations

import re

import numpy as np

TAGS = {b"\x01\x05con_4": "con", b"\x01\x07affine_": "affine", b"\x01\x04fc_2": "fc"}
"""A layer's name as dlib serializes strings: number of bytes of the length, the length, the name."""

MAX_VALUES = 50_000_000


def read_layers(data: bytes) -> dict[str, list[np.ndarray]]:
    """The tensors of each kind of layer, in the file's order, as flat float32 arrays: `con` has filters, then biases;
    `affine` scales, then shifts; `fc` a matrix (inputs, outputs).

    Raises:
        ValueError: a tensor is damaged or truncated.
    """
    layers: dict[str, list[np.ndarray]] = {kind: [] for kind in TAGS.values()}
    offset = 0
    for match in re.finditer(b"|".join(re.escape(tag) for tag in TAGS), data):
        if match.start() < offset:
            continue  # the bytes of a name within a tensor
        kind, offset = TAGS[match.group()], match.end()
        for _ in range(2 if kind == "fc" else 0):  # numbers of outputs and inputs; the tensor repeats them
            _, offset = _integer(data, offset)
        values, offset = _tensor(data, offset)
        layers[kind].append(values)
    if not layers["con"]:
        raise ValueError("it has no convolution of dlib")
    return layers


def _tensor(data: bytes, offset: int) -> tuple[np.ndarray, int]:
    """The values of a tensor, and the offset of its end."""
    header = []
    for _ in range(5):  # version, samples, channels, rows, columns
        number, offset = _integer(data, offset)
        header.append(number)
    version, *shape = header
    count = 1
    for side in shape:
        count *= side
    if version != 2 or not 0 < count <= MAX_VALUES:
        raise ValueError(f"a tensor of version {version} with {count} numbers at byte {offset}")
    if offset + 4 * count > len(data):
        raise ValueError(f"cut short: a tensor of {count} numbers at byte {offset}, and the file ends at {len(data)}")
    return np.frombuffer(data, "<f4", count, offset), offset + 4 * count


def _integer(data: bytes, offset: int) -> tuple[int, int]:
    """An integer as dlib packs it: a byte with the number of bytes that follow, and these, little-endian."""
    if offset >= len(data):
        raise ValueError("cut short: in the header of a tensor")
    size = data[offset] & 0x0F
    if data[offset] & 0x80 or size > 8 or offset + 1 + size > len(data):
        raise ValueError(f"invalid size of a tensor at byte {offset}")
    return int.from_bytes(data[offset + 1 : offset + 1 + size], "little"), offset + 1 + size
