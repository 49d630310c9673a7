"""What a server takes: how large, how many, and no file that is no image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.faces.decode import MAX_PIXELS, DecodeError, decode

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""What cameras and browsers write. Pillow reads more, some of it (PostScript) by running other programs, which nobody
should be able to ask of a server."""

TAKEN = "give an image as JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"


@dataclass(frozen=True)
class Limits:
    """megabytes: of a file. pixels: of an image. files: of a request."""

    megabytes: float = 20.0
    pixels: int = 50_000_000
    files: int = 32

    @property
    def bytes(self) -> int:
        """Of a file."""
        return int(self.megabytes * 2**20)

    @property
    def request_bytes(self) -> int:
        """Of a request: its files, and a little for what stands around them."""
        return self.files * self.bytes + 2**20


class RefusedError(FacecadeError):
    """What a server does not answer for: why, what to do, and HTTP's status for it."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.status = status


def require_count(count: int, limits: Limits) -> None:
    """Raises RefusedError for no image, and for more than a request may have."""
    if count == 0:
        raise RefusedError(400, "no image was given", "send one or more files as images")
    if count > limits.files:
        raise RefusedError(413, f"{count} images are too many at once", f"give at most {limits.files}")


def read_image(path: Path, limits: Limits) -> np.ndarray:
    """Read an image that is within the limits (faces/decode.py).

    Its size in pixels is read from its head before anything is unpacked: a small file may unpack to more than there is memory.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        RefusedError: 413 too large, 415 no image, 422 one that cannot be read.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise too_large(size, limits)
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels(f"over {MAX_PIXELS:,}", limits) from None
    except Exception as error:  # readers fail in ways of their own; what a reader of images says of it is clearer
        raise _unreadable(path, error) from None
    if width * height > limits.pixels:
        raise _too_many_pixels(f"{width}×{height}", limits)
    try:
        return decode(path)
    except DecodeError as error:
        raise _unreadable(path, error) from None


def too_large(size: int, limits: Limits) -> RefusedError:
    """Of a file of `size` bytes."""
    return RefusedError(
        413, f"the file is too large: {size / 2**20:.1f} MB", f"at most {limits.megabytes:g} MB; save it smaller"
    )


def _too_many_pixels(said: str, limits: Limits) -> RefusedError:
    return RefusedError(413, f"the image has too many pixels: {said}", f"at most {limits.pixels:,}; scale it down")


def _unreadable(path: Path, error: Exception) -> RefusedError:
    if path.stat().st_size == 0:
        return RefusedError(422, "the file is empty", TAKEN)
    if isinstance(error, DecodeError) and error.reason != "not an image":
        return RefusedError(422, f"the image cannot be read: {error.reason}", "save it again, or give another")
    return RefusedError(415, "the file is no image", TAKEN)
