"""TensorFlow.js graph models: a JSON that describes tensors, and files that hold their bytes one after another."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.files import read_bytes

MAX_JSON_BYTES, MAX_FILE_BYTES = 16 << 20, 512 << 20

TYPES = {"float32": "<f4", "int32": "<i4"}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a model's JSON by name, in shapes as it says.

    Raises:
        ValueError, KeyError, TypeError: no such model, or tensors that are not as long as it says.
        FacecadeError: a file that is missing, or too large.
    """
    try:
        model: Any = json.loads(read_bytes(path, MAX_JSON_BYTES))
    except RecursionError:
        raise ValueError("JSON nested without end") from None
    names = [name for group in model["weightsManifest"] for name in group["paths"]]
    if len(set(names)) < len(names):
        raise ValueError("a file of tensors is named twice")
    if sum(_beside(path, name).stat().st_size for name in names if _beside(path, name).is_file()) > MAX_FILE_BYTES:
        raise ValueError(f"files of tensors with more than {MAX_FILE_BYTES:,} bytes")
    tensors = {}
    for group in model["weightsManifest"]:
        data = b"".join(read_bytes(_beside(path, name), MAX_FILE_BYTES) for name in group["paths"])
        place = 0
        for entry in group["weights"]:
            if entry["dtype"] not in TYPES or "quantization" in entry:
                raise ValueError(f"{entry['name']} is of type {entry['dtype']}, not float32 as it was written")
            kind, shape = np.dtype(TYPES[entry["dtype"]]), entry["shape"]
            if not all(type(side) is int for side in shape):
                raise ValueError(f"{entry['name']} has sides that are no whole numbers")
            size = math.prod(shape) * kind.itemsize
            if min(shape, default=0) < 0 or place + size > len(data):
                raise ValueError(f"cut short: {entry['name']} wants {size} bytes at {place} of {len(data)}")
            tensors[str(entry["name"])] = np.frombuffer(data, kind, math.prod(shape), place).reshape(shape)
            place += size
        if place != len(data):
            raise ValueError(f"{len(data) - place} bytes more than its tensors take")
    return tensors


def _beside(path: Path, name: str) -> Path:
    """A file of the JSON's own folder."""
    if Path(name).name != name:
        raise ValueError(f"'{name}' lies outside the model's folder")
    return path.parent / name
