"""Files of strangers: regular ones alone, and no larger than what is expected; and by what one is known again."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from facecade.base.errors import FacecadeError


def read_bytes(path: Path, most: int) -> bytes:
    """A file's bytes.

    Args:
        most: bytes that it may have.

    Raises:
        FacecadeError: missing, no regular file, or larger.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise FacecadeError(f"{path} is no regular file", "give a file")
        if found.st_size > most:
            raise FacecadeError(
                f"{path} has {found.st_size:,} bytes, over the {most:,} that such a file may have", "give another file"
            )
        with path.open("rb") as file:
            data = file.read(found.st_size + 1)
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", "check its name") from None
    except OSError as error:
        raise FacecadeError(f"{path} cannot be read: {error.strerror}", "check who may read it") from None
    if len(data) > found.st_size:
        raise FacecadeError(f"{path} grew while it was read", "wait until it is whole")
    return data


def content_hash(path: Path) -> str:
    """A fingerprint of a file's bytes; empty where it cannot be read, as whoever opens it will say."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
