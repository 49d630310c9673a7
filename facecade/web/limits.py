"""Limits of the server: file size, number of files, and image formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecade.base.errors import FacecadeError
from facecade.faces.decode import DecodeError, decode

FORMAT_HINT = "send an image as JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"


MAX_REQUEST_BYTES = 256 * 2**20
"""Maximum size of a request of several files: they wait on the disk for their turn."""


@dataclass(frozen=True)
class Limits:
    """Maximum megabytes of a file, and files of a request. Pixels are limited by faces/decode.py."""

    megabytes: float = 64.0
    files: int = 32

    @property
    def bytes(self) -> int:
        """Maximum size of a file."""
        return int(self.megabytes * 2**20)

    @property
    def request_bytes(self) -> int:
        """Maximum size of a request: its files, at most MAX_REQUEST_BYTES of them, and 1 MiB for the multipart headers."""
        return max(self.bytes, min(self.files * self.bytes, MAX_REQUEST_BYTES)) + 2**20


class RefusedError(FacecadeError):
    """A request or image that is refused: the reason, a hint, and the HTTP status."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.status = status


def require_count(count: int, limits: Limits) -> None:
    """Raise RefusedError if there is no image, or if there are too many."""
    if count == 0:
        raise RefusedError(400, "no image was given", "send one or more files in the field images")
    if count > limits.files:
        raise RefusedError(413, f"{count} images are too many for one request", f"send at most {limits.files}")


def read_image(path: Path, limits: Limits) -> np.ndarray:
    """Decode an image if it is within the limits (faces/decode.py).

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        RefusedError: 413 too large, 415 not an image, 422 an image that cannot be read.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise file_too_large(size, limits)
    try:
        return decode(path)
    except DecodeError as error:
        raise _refused(error) from None


def file_too_large(size: int, limits: Limits) -> RefusedError:
    """The error for a file of `size` bytes."""
    return RefusedError(
        413,
        f"the file is too large: {size / 2**20:.1f} MB",
        f"at most {limits.megabytes:g} MB; save it at a smaller size",
    )


def _refused(error: DecodeError) -> RefusedError:
    if error.reason == "empty file":
        return RefusedError(422, "the file is empty", FORMAT_HINT)
    if error.reason == "not an image":
        return RefusedError(415, "the file is not an image", FORMAT_HINT)
    if error.reason.startswith("HEIC"):
        return RefusedError(415, "the image is HEIC, which this server cannot read", "save it as JPEG")
    if error.reason.startswith("enormous"):
        return RefusedError(413, f"the image is {error.reason}", error.hint)
    return RefusedError(422, f"the image cannot be read: {error.reason}", "save it again, or send another one")
