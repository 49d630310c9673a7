"""What can be known of every image of a data set without a model that was trained: each is read once, and numbers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from facecade.base.files import content_hash
from facecade.base.progress import Bar
from facecade.base.threads import bounded_map
from facecade.faces.crop import Box, box_of, crop
from facecade.faces.decode import DecodeError, decode
from facecade.faces.detect import make_finder
from facecade.faces.duplicates import perceptual_hashes
from facecade.faces.quality import quality
from facecade.recipe import Face

SEEN = np.dtype(
    [
        ("content", "U32"),
        ("format", "U8"),
        ("mode", "U8"),
        ("turned", "?"),
        ("width", "i4"),
        ("height", "i4"),
        ("faces", "i4"),
        ("box", "f8", (4,)),
        ("landmarks", "f8", (5, 2)),
        ("probability", "f8"),
        ("brightness", "f8"),
        ("sharpness", "f8"),
        ("hashes", "u8", (2, 4)),
    ]
)
"""Of an image: its file's fingerprint, format and mode (as Pillow names them), and whether EXIF turns it; pixels as they are
shown; how many faces are found; the largest one's box (left, top, right, bottom) and its probability, and the landmarks that the detector tells, NaN where there are none;
`quality` of its crop, or of the centre's; `perceptual_hashes`."""


def survey(paths: Sequence[Path], face: Face, workers: int) -> tuple[np.ndarray, list[str]]:
    """FaceCrop at images.

    Args:
        face: how faces are found and cut.

    Returns:
        SEEN (N,), and for each why it cannot be read; empty where it can.
    """
    seen, wrong = np.zeros(len(paths), SEEN), [""] * len(paths)
    find = make_finder(face)

    def look(path: Path) -> tuple[object, ...] | DecodeError:
        try:
            image = decode(path)
        except DecodeError as error:
            return error
        boxes = find(image)
        largest = boxes[0] if boxes else None
        measured = quality(crop(image, largest, face)[None])
        return (
            content_hash(path),
            *_header(path),
            *image.shape[1::-1],
            len(boxes),
            (largest.left, largest.top, largest.right, largest.bottom) if largest else (np.nan,) * 4,
            largest.landmarks if largest and largest.landmarks else np.full((5, 2), np.nan),
            largest.probability if largest else np.nan,
            measured["brightness"][0],
            measured["sharpness"][0],
            perceptual_hashes(image),
        )

    with Bar("look", len(paths), "images") as bar:
        for place, item in enumerate(bounded_map(look, paths, workers)):
            if isinstance(item, DecodeError):
                wrong[place] = item.reason
            else:
                seen[place] = item
            bar.advance()
    return seen, wrong


def largest_face(seen: np.void) -> Box | None:
    """The largest face of an image, as `crop` wants it."""
    if not seen["faces"]:
        return None
    places = seen["landmarks"][~np.isnan(seen["landmarks"]).any(1)]
    return box_of([*seen["box"].tolist(), float(seen["probability"]), *places.ravel().tolist()])


def _header(path: Path) -> tuple[str, str, bool]:
    """A readable image's format and mode, and whether it is turned by EXIF when shown."""
    with Image.open(path) as image:
        return image.format or "", image.mode, image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
