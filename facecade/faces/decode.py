"""Any image file → RGB uint8 HWC, or an error that names the file."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from facecade.base.errors import FacecadeError
from facecade.base.files import not_regular

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""Formats that cameras, scanners and browsers write. Pillow reads more, some of them (PostScript) by running other programs."""

JPEG_START, START_OF_SCAN, END_OF_IMAGE = b"\xff\xd8", b"\xda", b"\xd9"

MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
"""A JPEG marker that begins a segment: not the 0x00 or restart marker that follows 0xFF inside a scan."""

MAX_SCANS = 200
"""Scans of a progressive JPEG. Cameras and encoders write about ten; at 49 megapixels 100 take 1.2 s to decode."""

MAX_PIXELS = 100_000_000
"""Larger than the images of any camera; a file with more pixels is an attack or an accident."""


class DecodeError(FacecadeError):
    """A file that is not a readable image. `reason` fits into a table cell."""

    def __init__(self, path: Path, reason: str) -> None:
        hint = (
            "check its name" if reason == "no such file" else "give an image that other programs open, or save it again"
        )
        super().__init__(f"{path}: {reason}", hint)
        self.reason = reason


def decode(path: Path) -> np.ndarray:
    """Read an image.

    EXIF orientation is applied, alpha is composited over white, and CMYK, palette, gray and 16-bit files are converted
    to 8-bit RGB. Truncated files are refused: half a face gives a confident wrong prediction.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        DecodeError: the file is missing, empty, truncated, enormous, or not an image.
    """
    try:
        if reason := not_regular(path):
            raise DecodeError(path, reason)
        if path.stat().st_size == 0:
            raise DecodeError(path, "empty file")
        with warnings.catch_warnings():
            # The limit below applies first; Pillow would only warn.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _require_few_scans(path)
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DecodeError(path, f"enormous: {width}×{height} pixels, over {MAX_PIXELS:,}")
                image.load()
                return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError:
        raise DecodeError(path, "no such file") from None
    except UnidentifiedImageError:
        raise DecodeError(path, "not an image") from None
    except Image.DecompressionBombError:
        raise DecodeError(path, f"enormous: over {MAX_PIXELS:,} pixels") from None
    except DecodeError:
        raise
    except Exception as error:  # readers of formats raise many classes: struct.error, KeyError, zlib.error
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({error})"
        raise DecodeError(path, reason) from None


def _require_few_scans(path: Path) -> None:
    """Raises DecodeError for a JPEG of many scans: each takes the time of a whole image, however few bytes it has."""
    with path.open("rb") as file:
        if file.read(2) != JPEG_START:
            return
        scans = _scans(file.read())
    if scans > MAX_SCANS:
        raise DecodeError(path, f"over {MAX_SCANS} scans")


def _scans(data: bytes) -> int:
    """Number of scans in what follows a JPEG's first marker, at most MAX_SCANS + 1.

    As a decoder does, it skips each segment by its length (an embedded thumbnail has scans of its own) and stops at the end of the
    image (phones append videos).
    """
    scans, position = 0, 0
    while scans <= MAX_SCANS and (found := MARKER.search(data, position)) and found[1] != END_OF_IMAGE:
        scans += found[1] == START_OF_SCAN
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips 16-bit gray at 255 when it converts; scale it instead.
        values = np.asarray(image, dtype=np.float64)
        scale = 257.0 if values.max(initial=0) > 255 else 1.0
        return Image.fromarray(np.clip(values / scale, 0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(background, rgba).convert("RGB")
    return image.convert("RGB")
