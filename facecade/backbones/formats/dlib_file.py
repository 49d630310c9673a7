"""dlib's serialized networks: layers one after another from the input on, each with a tensor of what it learned."""

from __future__ import annotations

import re

import numpy as np

TAGS = {b"\x01\x05con_4": "con", b"\x01\x07affine_": "affine", b"\x01\x04fc_2": "fc"}
"""A layer's name as dlib writes strings: how many bytes its length takes, the length, the name."""

MAX_VALUES = 50_000_000


def read_layers(data: bytes) -> dict[str, list[np.ndarray]]:
    """The tensors of each kind of layer, in the file's order, as flat float32 arrays: of `con` filters, then biases; of `affine`
    scales, then shifts; of `fc` a matrix (inputs, outputs).

    Raises:
        ValueError: a tensor that is damaged, or cut short.
    """
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in TAGS.values()}
    place = 0
    for match in re.finditer(b"|".join(re.escape(tag) for tag in TAGS), data):
        if match.start() < place:
            continue  # a name's bytes among a tensor's
        kind, place = TAGS[match.group()], match.end()
        for _ in range(2 if kind == "fc" else 0):  # how many outputs and inputs, which its tensor says again
            _, place = _integer(data, place)
        values, place = _tensor(data, place)
        found[kind].append(values)
    if not found["con"]:
        raise ValueError("it holds no convolution of dlib's")
    return found


def _tensor(data: bytes, place: int) -> tuple[np.ndarray, int]:
    """A tensor's numbers, and where it ends."""
    numbers = []
    for _ in range(5):  # version, samples, channels, rows, columns
        number, place = _integer(data, place)
        numbers.append(number)
    version, *shape = numbers
    count = 1
    for side in shape:
        count *= side
    if version != 2 or not 0 < count <= MAX_VALUES:
        raise ValueError(f"a tensor of version {version} with {count} numbers at byte {place}")
    if place + 4 * count > len(data):
        raise ValueError(f"cut short: a tensor of {count} numbers at byte {place}, and the file ends at {len(data)}")
    return np.frombuffer(data, "<f4", count, place), place + 4 * count


def _integer(data: bytes, place: int) -> tuple[int, int]:
    """An integer as dlib packs it: a byte that says how many follow, and these, the lowest first."""
    if place >= len(data):
        raise ValueError("cut short within a tensor's head")
    size = data[place] & 0x0F
    if data[place] & 0x80 or size > 8 or place + 1 + size > len(data):
        raise ValueError(f"no size of a tensor at byte {place}")
    return int.from_bytes(data[place + 1 : place + 1 + size], "little"), place + 1 + size
