"""Limits of the server: file size, pixels, number of files, and image formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.faces.decode import FORMATS, MAX_PIXELS, DecodeError, decode

FORMAT_HINT = "send an image as JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"


@dataclass(frozen=True)
class Limits:
    """Maximum megabytes of a file, pixels of an image, and files of a request."""

    megabytes: float = 20.0
    pixels: int = 50_000_000
    files: int = 32

    @property
    def bytes(self) -> int:
        """Maximum size of a file."""
        return int(self.megabytes * 2**20)

    @property
    def request_bytes(self) -> int:
        """Maximum size of a request: its files, and 1 MiB for the multipart headers."""
        return self.files * self.bytes + 2**20


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

    The number of pixels is read from the header before decoding: a small file may decode to more than the memory holds.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        RefusedError: 413 too large, 415 not an image, 422 an image that cannot be read.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise file_too_large(size, limits)
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels(f"over {MAX_PIXELS:,}", limits) from None
    except Exception as error:  # Pillow's readers raise errors of many types
        raise _unreadable(path, error) from None
    if width * height > limits.pixels:
        raise _too_many_pixels(f"{width}×{height}", limits)
    try:
        return decode(path)
    except DecodeError as error:
        raise _unreadable(path, error) from None


def file_too_large(size: int, limits: Limits) -> RefusedError:
    """The error for a file of `size` bytes."""
    return RefusedError(
        413,
        f"the file is too large: {size / 2**20:.1f} MB",
        f"at most {limits.megabytes:g} MB; save it at a smaller size",
    )


def _too_many_pixels(pixels: str, limits: Limits) -> RefusedError:
    return RefusedError(413, f"the image has too many pixels: {pixels}", f"at most {limits.pixels:,}; scale it down")


def _unreadable(path: Path, error: Exception) -> RefusedError:
    if path.stat().st_size == 0:
        return RefusedError(422, "the file is empty", FORMAT_HINT)
    if isinstance(error, DecodeError) and error.reason != "not an image":
        return RefusedError(422, f"the image cannot be read: {error.reason}", "save it again, or send another one")
    return RefusedError(415, "the file is not an image", FORMAT_HINT)
