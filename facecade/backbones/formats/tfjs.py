"""TensorFlow.js graph models: a JSON file that describes tensors, and files with their bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.files import read_bytes

MAX_JSON_BYTES, MAX_FILE_BYTES = 16 << 20, 512 << 20

DTYPES = {"float32": "<f4", "int32": "<i4"}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a model by name, in the shapes that its JSON file gives.

    Raises:
        ValueError, KeyError, TypeError: not such a model, or the files do not have the size of the tensors.
        FacecadeError: a file is missing or too large.
    """
    try:
        model: Any = json.loads(read_bytes(path, MAX_JSON_BYTES))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    names = [name for group in model["weightsManifest"] for name in group["paths"]]
    if len(set(names)) < len(names):
        raise ValueError("a file of tensors is listed twice")
    if (
        sum(_same_folder(path, name).stat().st_size for name in names if _same_folder(path, name).is_file())
        > MAX_FILE_BYTES
    ):
        raise ValueError(f"its files of tensors have more than {MAX_FILE_BYTES:,} bytes")
    tensors = {}
    for group in model["weightsManifest"]:
        data = b"".join(read_bytes(_same_folder(path, name), MAX_FILE_BYTES) for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            if entry["dtype"] not in DTYPES or "quantization" in entry:
                raise ValueError(
                    f"{entry['name']} has type {entry['dtype']} or is quantized; only float32 and int32 can be read"
                )
            dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
            if not all(type(side) is int for side in shape):
                raise ValueError(f"{entry['name']} has a shape that is not of integers")
            size = math.prod(shape) * dtype.itemsize
            if min(shape, default=0) < 0 or offset + size > len(data):
                raise ValueError(f"cut short: {entry['name']} needs {size} bytes at {offset} of {len(data)}")
            tensors[str(entry["name"])] = np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)
            offset += size
        if offset != len(data):
            raise ValueError(f"the files have {len(data) - offset} bytes more than the tensors")
    return tensors


def _same_folder(path: Path, name: str) -> Path:
    """A file in the folder of the JSON file."""
    if Path(name).name != name:
        raise ValueError(f"'{name}' is outside the model's folder")
    return path.parent / name
