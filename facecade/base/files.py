"""Read untrusted files safely (only regular files of limited size), and hash their content."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from facecade.base.errors import FacecadeError


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A file's bytes.

    Args:
        max_bytes: maximum size of the file.

    Raises:
        FacecadeError: the file is missing, not a regular file, or larger.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FacecadeError(f"{path} is not a regular file", "give a file")
        if status.st_size > max_bytes:
            raise FacecadeError(
                f"{path} has {status.st_size:,} bytes, more than the allowed {max_bytes:,}", "give another file"
            )
        with path.open("rb") as file:
            data = file.read(status.st_size + 1)
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", "check its name") from None
    except OSError as error:
        raise FacecadeError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
    if len(data) > status.st_size:
        raise FacecadeError(f"{path} grew while it was read", "wait until it is complete")
    return data


def content_hash(path: Path) -> str:
    """A hash of a file's bytes; empty if it cannot be read, since the code that opens it raises the error."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
