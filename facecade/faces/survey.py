"""Measurements of every image of a dataset that need no trained stage; each image is read once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from facecade.base.files import content_hash
from facecade.base.progress import Bar
from facecade.base.threads import bounded_map
from facecade.faces.crop import Box, box_from_values, crop
from facecade.faces.decode import FORMATS, DecodeError, decode
from facecade.faces.detect import make_all_faces_detector
from facecade.faces.duplicates import perceptual_hashes
from facecade.faces.quality import quality
from facecade.recipe import Face

SURVEY_DTYPE = np.dtype(
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
"""Of each image: content hash of its file; Pillow's format and mode; whether EXIF rotates or mirrors it; width and
height after that; number of faces; box (left, top, right, bottom) and probability of the largest face, and its
landmarks, NaN where there are none; `quality` of its crop, or of the center crop; `perceptual_hashes`."""


def survey(paths: Sequence[Path], face: Face, workers: int) -> tuple[np.ndarray, list[str]]:
    """Measure images.

    Args:
        face: how faces are detected and cropped.

    Returns:
        SURVEY_DTYPE (N,), and for each image why it cannot be read, or an empty text.
    """
    rows, reasons = np.zeros(len(paths), SURVEY_DTYPE), [""] * len(paths)
    detect_all = make_all_faces_detector(face)

    def measure(path: Path) -> tuple[object, ...] | DecodeError:
        try:
            image = decode(path)
        except DecodeError as error:
            return error
        boxes = detect_all(image)
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

    with Bar("survey", len(paths), "images") as bar:
        for index, item in enumerate(bounded_map(measure, paths, workers)):
            if isinstance(item, DecodeError):
                reasons[index] = item.reason
            else:
                rows[index] = item
            bar.advance()
    return rows, reasons


def largest_face(row: np.void) -> Box | None:
    """The box of the largest face of an image, from its SURVEY_DTYPE row."""
    if not row["faces"]:
        return None
    landmarks = row["landmarks"][~np.isnan(row["landmarks"]).any(1)]
    return box_from_values([*row["box"].tolist(), float(row["probability"]), *landmarks.ravel().tolist()])


def _header(path: Path) -> tuple[str, str, bool]:
    """A readable image's format and mode, and whether EXIF rotates or mirrors it."""
    with Image.open(path, formats=FORMATS) as image:
        return image.format or "", image.mode, image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
