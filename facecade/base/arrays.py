"""Named arrays as an uncompressed npz, whose names, shapes and dtypes are checked when it is read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from facecade.base.artifact import again, read_checked, write_bytes
from facecade.base.errors import FacecadeError, first_line

Layout = Mapping[str, str]
"""Arrays by name: dtype and shape of each, as `f4 rows 18`. Dimensions with the same word have the same size. `f8?`: may hold
NaN. `U`: text. An array whose name ends in `?` may be missing."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Save named arrays as an uncompressed npz; returns the hash of the file."""
    file = BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return write_bytes(path, file.getvalue())


def read_arrays(path: Path, content: str, layout: Layout, made_by: str) -> dict[str, np.ndarray]:
    """The arrays of an npz that a record names.

    Args:
        content, made_by: as for `read_checked`.

    Raises:
        FacecadeError: as `read_checked`; or the file has other arrays than `layout`, or is compressed or pickled.
    """
    data = read_checked(path, content, made_by)
    try:
        arrays = _unpack(data)
        _require_layout(arrays, layout)
    except Exception as error:  # zipfile and NumPy raise many kinds of errors for a damaged file
        raise FacecadeError(f"{path} is damaged: {first_line(error)}", again(made_by)) from None
    return arrays


def _unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz; together they take no more memory than the file."""
    with zipfile.ZipFile(BytesIO(data)) as file:
        members = file.infolist()
        if any(each.compress_type != zipfile.ZIP_STORED for each in members):
            raise ValueError("it is compressed")
        if sum(each.file_size for each in members) > len(data):
            raise ValueError("its arrays are larger than the file")
        return {each.filename.removesuffix(".npy"): _array(file.read(each)) for each in members}


def _array(data: bytes) -> np.ndarray:
    """The array of an npy file whose header describes exactly the bytes that follow it."""
    file = BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is in another format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or size != len(data) - file.tell():
        raise ValueError("an array has another size than its header says")
    return np.lib.format.read_array(BytesIO(data), allow_pickle=False)


def _require_layout(arrays: Mapping[str, np.ndarray], layout: Layout) -> None:
    """Raises ValueError where arrays are not those of a layout."""
    required = {name for name in layout if not name.endswith("?")}
    known = {name.removesuffix("?"): text for name, text in layout.items()}
    if not required <= arrays.keys() <= known.keys():
        raise ValueError(f"it has the arrays {', '.join(sorted(arrays)) or 'none'}, not {', '.join(sorted(layout))}")
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        kind, *dimensions = known[name].split()
        expected = [
            int(word) if word.isdigit() else sizes.setdefault(word, size)
            for word, size in zip(dimensions, array.shape, strict=False)
        ]
        same_kind = array.dtype.kind == "U" if kind == "U" else array.dtype == np.dtype(kind.removesuffix("?"))
        if not same_kind or len(dimensions) != array.ndim or expected != list(array.shape):
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {known[name]}")
        if array.dtype.kind == "f" and not kind.endswith("?") and not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
