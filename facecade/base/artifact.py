"""Artifact files: written atomically, never pickled, and read as if a stranger had written them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from facecade.base.errors import FacecadeError, excerpt, file_error, problems
from facecade.base.files import bytes_hash, read_bytes
from facecade.base.program import command

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 2 << 30
"""Maximum size of a file of weights, a network or arrays."""

_TEMPORARY = ".tmp-"
"""Begin of the name of a file that is being written."""

_PACKAGES = ("torch", "timm", "albumentations", "numpy", "scikit-learn", "pandas")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises FacecadeError, which names `path`, where the block raises OSError: the disk is full, for example."""
    try:
        yield
    except OSError as error:
        raise file_error(f"{path} cannot be written", error) from error


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)` in the folder of `path`, then rename, so that `path` is never half written.

    A process that is killed leaves the temporary file; who holds the folder next removes it (base/lock.py).

    Raises:
        FacecadeError: it cannot be written; what was there before is kept.
    """
    # The end of the name: NumPy and Pillow choose the format by it, and a name has at most 255 bytes.
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name[-40:]}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of `name` that killed processes left in a folder. Nobody may be writing there."""
    for file in folder.glob(f"{_TEMPORARY}*-{name}"):
        file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, with the same line endings on every system."""
    text = StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(path, text.getvalue())


def write_bytes(path: Path, data: bytes) -> str:
    """Write a file's bytes; returns their hash."""
    write_atomic(path, lambda temporary: temporary.write_bytes(data))
    return bytes_hash(data)


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


class Record(BaseModel):
    """What a JSON artifact holds: no unknown keys, strict types, finite numbers.

    made_by: the command that makes it again. max_bytes: maximum size of the file. indent: of its JSON; None = in one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    made_by: ClassVar[str]
    max_bytes: ClassVar[int] = 1 << 20
    indent: ClassVar[int | None] = 2

    @classmethod
    def remake(cls, path: Path) -> str:
        """The command that makes the record at `path` again; `made_by`, with the folder where an option names it."""
        return cls.made_by

    def json_value(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return self.model_dump(mode="json")


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: Path, record: Record) -> str:
    """Write a record as JSON; returns the hash of the file."""
    return write_bytes(path, (record.model_dump_json(indent=record.indent) + "\n").encode())


def read_record(path: Path, model: type[AnyRecord]) -> AnyRecord:
    """The record in a JSON artifact; raises one FacecadeError for all that is wrong with it."""
    return _parse(path, _read(path, model.max_bytes, again(model.remake(path))), model)


def read_checked_record(path: Path, content: str, model: type[AnyRecord]) -> AnyRecord:
    """The record in a JSON artifact that another record names; raises as `read_record` and `read_checked` do."""
    return _parse(path, read_checked(path, content, model.remake(path), model.max_bytes), model)


def _parse(path: Path, data: bytes, model: type[AnyRecord]) -> AnyRecord:
    hint = again(model.remake(path))
    try:
        from_json(data, allow_inf_nan=False)  # a model would accept NaN where any value is allowed
        return model.model_validate_json(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [f"{excerpt('.'.join(map(str, each['loc'])))}: {each['msg'].lower()}" for each in found]
        raise problems(path, lines, hint, max_lines=10) from None
    except ValueError as error:
        raise FacecadeError(f"{path} is not JSON: {error}", hint) from None


def valid_record(path: Path, model: type[AnyRecord]) -> AnyRecord | None:
    """The record in a JSON artifact; None where it is missing or damaged, for records that are then made again."""
    try:
        return read_record(path, model)
    except FacecadeError:
        return None


def read_checked(path: Path, content: str, made_by: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of an artifact that a record names.

    Args:
        content: their hash, as recorded.
        made_by: the command that makes the file again.

    Raises:
        FacecadeError: it is missing or too large, or its hash is another.
    """
    hint = again(made_by)
    data = _read(path, max_bytes, hint)
    if bytes_hash(data) != content:
        raise FacecadeError(f"{path} was changed or is damaged: its hash is not the recorded one", hint)
    return data


def _read(path: Path, max_bytes: int, hint: str) -> bytes:
    try:
        return read_bytes(path, max_bytes)
    except FacecadeError as error:
        raise FacecadeError(str(error), hint) from None


def again(made_by: str) -> str:
    """The hint for a damaged artifact: the command that makes it again."""
    return f"make it again: {command(made_by)}"


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
