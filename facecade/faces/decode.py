"""Any image file → RGB uint8 HWC, or an error that names the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from facecade.base.errors import FacecadeError

MAX_PIXELS = 100_000_000
"""More than any camera gives; a file that claims more is an attack or an accident."""


class DecodeError(FacecadeError):
    """A file that is no readable image. `reason` is short enough for a table's cell."""

    def __init__(self, path: Path, reason: str) -> None:
        mend = (
            "check its name" if reason == "no such file" else "give an image that other programs open, or save it again"
        )
        super().__init__(f"{path}: {reason}", mend)
        self.reason = reason


def decode(path: Path) -> np.ndarray:
    """Read an image.

    EXIF orientation is applied, alpha dropped over white, CMYK, palette, grey and 16-bit files
    converted to 8-bit RGB. Truncated files are refused: half a face gives a confident wrong answer.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        DecodeError: missing, empty, truncated, enormous, or no image at all.
    """
    try:
        if path.stat().st_size == 0:
            raise DecodeError(path, "empty file")
        with warnings.catch_warnings():
            # Our own limit below speaks first; Pillow would only warn.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DecodeError(path, f"enormous: {width}×{height} pixels, over {MAX_PIXELS:,}")
                image.load()
                return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError:
        raise DecodeError(path, "no such file") from None
    except IsADirectoryError:
        raise DecodeError(path, "a folder, not a file") from None
    except UnidentifiedImageError:
        raise DecodeError(path, "not an image") from None
    except Image.DecompressionBombError:
        raise DecodeError(path, f"enormous: over {MAX_PIXELS:,} pixels") from None
    except DecodeError:
        raise
    except Exception as error:  # each format's reader fails in ways of its own: struct.error, KeyError, zlib.error
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({error})"
        raise DecodeError(path, reason) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips 16-bit grey at 255 when converting; scale it instead.
        values = np.asarray(image, dtype=np.float64)
        scale = 257.0 if values.max(initial=0) > 255 else 1.0
        return Image.fromarray(np.clip(values / scale, 0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")
