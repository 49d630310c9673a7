"""Any image file → RGB uint8 HWC, or an error that names the file; time and memory are bounded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Condition
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from facecade.base.errors import FacecadeError, excerpt
from facecade.base.files import MAX_IMAGE_BYTES, TOO_LARGE, not_regular
from facecade.base.program import install

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""Formats that cameras, scanners and browsers write. Pillow reads more, some of them (PostScript) by running other programs."""

MAX_PIXELS = 50_000_000
"""Maximum pixels that are decoded: all threads together, and of one image. They take up to 0.5 GB and 4 s (AVIF, PNG)."""

MAX_WEBP_PIXELS = 25_000_000
"""Maximum pixels of a WebP image, whose decoder keeps it in memory five times: 0.4 GB."""

MAX_JPEG_PIXELS = 256_000_000
"""Maximum pixels of a JPEG, which is scaled by 2, 4 or 8 while it is decoded if it has more than MAX_PIXELS: 200 megapixels of a phone
take 0.4 GB and 1.4 s, or, if it is progressive, 0.8 GB and 4 s. A face that the detector finds at its default `min_face` is then still over
200 pixels high: it searches at a longest side of 1024 (faces/detect.py)."""

SCALE_DOWN = f"scale it down: at most {MAX_JPEG_PIXELS:,} pixels as JPEG, {MAX_WEBP_PIXELS:,} as WebP, {MAX_PIXELS:,} in other formats"
"""Hint for an image that is too large."""

MAX_SCANS = 200
"""Scans of a JPEG. Cameras and encoders write about ten."""

MAX_SCANNED_PIXELS = 10_000_000_000
"""Pixels times scans of a JPEG: each scan takes the time of a whole image, however few bytes it has. About 2.4 s."""

JPEG_START, START_OF_SCAN, END_OF_IMAGE = b"\xff\xd8", b"\xda", b"\xd9"

MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
"""A JPEG marker that begins a segment: not the 0x00 or restart marker that follows 0xFF inside a scan."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What follows `ftyp` in the files of an iPhone (ISO/IEC 23008-12)."""

ROWS_PER_STRIP = 512

BIT_DEPTHS = (8, 10, 12, 14, 16, 32)
"""Bits of gray values. A file that holds 12 bits in 16 does not tell, so the smallest that fits its maximum is taken."""

# Pillow warns of what is checked here, or of metadata that is not needed. A filter for each call would not be thread-safe.
warnings.filterwarnings("ignore", module="PIL")

# Pillow's blocks of 16 MB come from heaps that glibc keeps for each thread; larger ones go back to the system when they are freed.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]  # Pillow documents it, its types do not


class DecodeError(FacecadeError):
    """A file that is not a readable image. `reason` fits into a table cell."""

    def __init__(
        self, path: object, reason: str, hint: str = "give an image that other programs open, or save it again"
    ) -> None:
        super().__init__(f"{path}: {reason}", "check its name" if reason == "no such file" else hint)
        self.reason = reason


@dataclass(frozen=True)
class ImageBytes:
    """An image file in memory, as it came from a network or a table. name: for messages."""

    name: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def open(self, mode: str) -> BytesIO:
        """As `Path.open`."""
        return BytesIO(self.data)

    def read_bytes(self) -> bytes:
        """As `Path.read_bytes`."""
        return self.data

    def fetch(self) -> ImageBytes:
        """The file itself: it is here already."""
        return self


class Fetchable(Protocol):
    """An image file that lies elsewhere."""

    def fetch(self) -> Path | ImageBytes:
        """The file; raises DecodeError where there is none, or it may not be read."""


class _PixelsInFlight:
    """Bounds the pixels that all threads decode and hold at once; an image larger than the bound is alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._released = Condition()

    @contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, self.limit)
        with self._released:
            self._released.wait_for(lambda: self.used + pixels <= self.limit)
            self.used += pixels
        try:
            yield
        finally:
            with self._released:
                self.used -= pixels
                self._released.notify_all()


_pixels_in_flight = _PixelsInFlight(MAX_PIXELS)


def decode(path: Path | ImageBytes) -> np.ndarray:
    """Read an image.

    EXIF orientation is applied, alpha is composited over white, and CMYK, palette, gray, 16-bit and float files are
    converted to 8-bit RGB. A JPEG of over MAX_PIXELS is scaled down. Truncated files are refused: half a face gives a
    confident wrong prediction.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        DecodeError: the file is missing, empty, truncated, enormous, or not an image.
    """
    with decoded(path) as pixels:
        return pixels


@contextmanager
def decoded(path: Path | ImageBytes) -> Iterator[np.ndarray]:
    """`decode` for many threads: as long as the context lasts, the image counts as memory in use, and others wait for it.

    Raises:
        DecodeError: as of `decode`; what the body raises is left alone.
    """
    with ExitStack() as reserved:
        with opened(path) as image:
            _require_size(path, image)
            reserved.enter_context(_pixels_in_flight.reserve(_scale_while_decoding(path, image)))
            pixels = _to_rgb(image)
        del image  # closing it does not free its pixels
        yield pixels


@contextmanager
def opened(path: Path | ImageBytes) -> Iterator[Image.Image]:
    """An image of which only the header was read, of any size; an error in the body is one of the image.

    Raises:
        DecodeError: as of `decode`.
    """
    try:
        if reason := _refused(path):
            raise DecodeError(path, reason)
        with _open(path) as image:
            yield image
    except FileNotFoundError:
        raise DecodeError(path, "no such file") from None
    except UnidentifiedImageError:
        raise _unidentified(path) from None
    except Image.DecompressionBombError:
        raise DecodeError(path, f"enormous: over {MAX_PIXELS:,} pixels", SCALE_DOWN) from None
    except DecodeError:
        raise
    except Exception as error:  # readers of formats raise many classes: struct.error, KeyError, zlib.error
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({excerpt(error)})"
        raise DecodeError(path, reason) from None


def _refused(path: Path | ImageBytes) -> str:
    """Why a file is not opened; empty if it is. Raises OSError if it is missing."""
    if isinstance(path, Path):
        return not_regular(path) or ("" if path.stat().st_size else "empty file")
    if not path.data:
        return "empty file"
    return TOO_LARGE if len(path.data) > MAX_IMAGE_BYTES else ""


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image as EXIF turns it."""
    width, height = image.size
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation) in range(5, 9) else (width, height)


def _open(path: Path | ImageBytes) -> Image.Image:
    with path.open("rb") as file:
        is_jpeg = file.read(2) == JPEG_START
    # Image.open refuses more than 179 megapixels, also of a JPEG, which can be scaled while it is decoded.
    source = path if isinstance(path, Path) else path.open("rb")
    return JpegImagePlugin.JpegImageFile(source) if is_jpeg else Image.open(source, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """FORMATS, and HEIC where its reader is installed."""
    if find_spec("pi_heif") is None:
        return FORMATS
    import pi_heif

    pi_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _unidentified(path: Path | ImageBytes) -> DecodeError:
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS:
        return DecodeError(path, "HEIC, for which a package is missing", f"{install('heic')}, or save it as JPEG")
    return DecodeError(path, "not an image")


def _require_size(path: Path | ImageBytes, image: Image.Image) -> None:
    width, height = image.size
    limit = {"JPEG": MAX_JPEG_PIXELS, "WEBP": MAX_WEBP_PIXELS}.get(image.format or "", MAX_PIXELS)
    if width * height > limit:
        raise DecodeError(
            path,
            f"enormous: {width}×{height} pixels, over {limit:,}",
            SCALE_DOWN,
        )


def _scale_while_decoding(path: Path | ImageBytes, image: Image.Image) -> int:
    """Have a large JPEG scaled while it is decoded. Returns the pixels that decoding will keep in memory.

    Raises:
        DecodeError: a JPEG of many scans.
    """
    width, height = image.size
    pixels = width * height
    if image.format != "JPEG":
        return pixels * MAX_PIXELS // MAX_WEBP_PIXELS if image.format == "WEBP" else pixels
    limit = min(MAX_SCANS, MAX_SCANNED_PIXELS // pixels)
    scans = _scans(path, limit)
    if scans > limit:
        raise DecodeError(path, f"over {limit} scans")
    scale = next(scale for scale in (1, 2, 4, 8) if pixels <= MAX_PIXELS * scale**2)
    if scale > 1:
        image.draft(None, (width // scale, height // scale))
    return image.width * image.height if scans == 1 else pixels  # of several scans all coefficients are kept


def _scans(path: Path | ImageBytes, limit: int) -> int:
    """Number of scans in a JPEG, at most limit + 1.

    As a decoder does, it skips each segment by its length (an embedded thumbnail has scans of its own) and stops at the end of the
    image (phones append videos).
    """
    data = path.read_bytes()
    scans, position = 0, len(JPEG_START)
    while scans <= limit and (found := MARKER.search(data, position)) and found[1] != END_OF_IMAGE:
        scans += found[1] == START_OF_SCAN
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans


def _to_rgb(image: Image.Image) -> np.ndarray:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(
        0, image.height, ROWS_PER_STRIP
    ):  # conversions of the whole image would take its memory several times
        bottom = min(top + ROWS_PER_STRIP, image.height)
        pixels[top:bottom] = np.asarray(_without_alpha(image.crop((0, top, image.width, bottom))))
    return pixels


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Gray values of more than 8 bits, or floats (0..1, or as integers), as uint8 (height, width). Pillow would clip them at 255.

    Raises:
        ValueError: values that are not finite.
    """
    highest = float(values.max())
    if not np.isfinite(highest) or not np.isfinite(values.min()):
        raise ValueError("pixels that are not numbers")
    is_share = values.dtype.kind == "f" and highest <= 1
    white = 1.0 if is_share else next((2**bits - 1 for bits in BIT_DEPTHS if highest < 2**bits), highest)
    gray = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # a row at a time: in float64 the image would take eight times its memory
        gray[row] = np.clip(line * (255 / white), 0, 255).round()
    return gray
