"""Artifact files: written atomically, and never pickled."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facecade.base.errors import FacecadeError

if TYPE_CHECKING:
    import pandas as pd

_PACKAGES = ("torch", "timm", "albumentations", "numpy", "scikit-learn", "pandas")


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)` in the folder of `path`, then rename, so that `path` is never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the suffix: XGBoost and NumPy choose the format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, with the same line endings on every system."""
    text = StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(path, text.getvalue())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2, default=_to_json, ensure_ascii=False) + "\n")


def _to_json(value: object) -> object:
    """A JSON value for a NumPy or pathlib object."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON artifact; raises FacecadeError if it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise FacecadeError(f"{path} cannot be read as JSON: {error}", f"remove {path} and fit again") from None
    if not isinstance(value, dict):
        raise FacecadeError(f"{path} must contain a JSON object", f"remove {path} and fit again")
    return value


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Save named arrays as an uncompressed npz."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # np.savez would append its own suffix to a bare path
            np.savez(file, **arrays)  # type: ignore[arg-type]

    write_atomic(path, save)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz without pickled objects; raises FacecadeError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, KeyError, ImportError) as error:
        raise FacecadeError(f"{path} cannot be read: {error}", f"remove {path} and fit again") from None
    except Exception as error:  # zipfile has its own exception for a damaged archive
        raise FacecadeError(f"{path} is damaged: {error}", f"remove {path} and fit again") from None


def digest(value: object) -> str:
    """A 16-digit hexadecimal hash of a JSON value."""
    text = json.dumps(value, sort_keys=True, default=_to_json)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a fit."""
    result = {"python": platform.python_version()}
    for name in (*_PACKAGES, "xgboost", "xgboost-cpu"):
        try:
            result[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return result
