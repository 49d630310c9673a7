"""Read untrusted files safely (only regular files of limited size, only inside their folder), and hash their content."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from facecade.base.errors import FacecadeError

MAX_IMAGE_BYTES = 512 * 2**20
"""Maximum size of an image file."""

TOO_LARGE = f"too large: over {MAX_IMAGE_BYTES / 2**20:.0f} MB"
"""Why a larger image file is refused."""


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


def not_regular(path: Path) -> str:
    """Why a file must not be opened, as it would block or never end: a pipe, a device, or larger than MAX_IMAGE_BYTES; empty
    if it may be. Raises OSError if it is missing."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return "a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return TOO_LARGE if status.st_size > MAX_IMAGE_BYTES else ""


def printable(name: str) -> str:
    """A file name as text that any encoding can write: bytes that are not UTF-8 become `\\udcff`, their escape in Python."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_file(path: Path) -> bool:
    """Whether a regular file exists; False also for names that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def require_links_inside(folder: Path) -> None:
    """Raises FacecadeError for a link anywhere in a folder that leads out of it: whoever made the folder chose what it
    leads to."""
    top = folder.resolve()
    for parent, folders, files in os.walk(folder):  # does not follow links
        for path in (Path(parent, name) for name in (*folders, *files)):
            # realpath, because Path.resolve raises for links in a circle
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
                raise FacecadeError(f"{path} is a link that leads out of {folder}", "replace it by what it leads to")


def file_hash(path: Path) -> str:
    """A hash of a file's bytes; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def bytes_hash(data: bytes) -> str:
    """What `file_hash` gives for a file of these bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def content_hash(path: Path) -> str:
    """`file_hash` of a file that a user gave; empty if it cannot be read, since the code that opens it raises the error."""
    try:
        return "" if not_regular(path) else file_hash(path)
    except (OSError, ValueError):
        return ""
