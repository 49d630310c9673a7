"""Measurements of every image of a dataset that need no trained stage; each image is read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image

from facecade.base.files import content_hash
from facecade.base.progress import Bar
from facecade.base.threads import bounded_map
from facecade.faces.boxes import BoxedImage, ImageFile, box_in_pixels, path_of
from facecade.faces.crop import Box, box_from_values, crop
from facecade.faces.decode import DecodeError, decoded, opened, upright_size
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


def survey(images: Sequence[ImageFile], face: Face, workers: int) -> tuple[np.ndarray, list[str]]:
    """Measure images. Where the box of a face is given, it is the only one.

    Args:
        face: how faces are detected and cropped.

    Returns:
        SURVEY_DTYPE (N,), and for each image why it cannot be read, or an empty text.
    """
    rows, reasons = np.zeros(len(images), SURVEY_DTYPE), [""] * len(images)
    detect_all = make_all_faces_detector(face)

    def measure(item: ImageFile) -> tuple[object, ...] | DecodeError:
        path = path_of(item)
        try:
            with opened(path) as file:
                header = _header(file)
            with decoded(path) as image:
                boxes = [box_in_pixels(item, image.shape[1])] if isinstance(item, BoxedImage) else detect_all(image)
                return (content_hash(path), *header, *_measured(image, boxes, face))
        except DecodeError as error:
            return error

    with Bar("survey", len(images), "images") as bar:
        for index, item in enumerate(bounded_map(measure, images, workers)):
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


def _header(image: Image.Image) -> tuple[str, str, bool, int, int]:
    """An opened image's format and mode, whether EXIF rotates or mirrors it, and its width and height after that."""
    turned = image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    return image.format or "", image.mode, turned, *upright_size(image)


def _measured(image: np.ndarray, boxes: Sequence[Box], face: Face) -> tuple[object, ...]:
    """The fields of SURVEY_DTYPE that depend on pixels. Boxes are in pixels of the decoded image."""
    largest = boxes[0] if boxes else None
    measured = quality(crop(image, largest, face)[None])
    return (
        len(boxes),
        (largest.left, largest.top, largest.right, largest.bottom) if largest else (np.nan,) * 4,
        largest.landmarks if largest and largest.landmarks else np.full((5, 2), np.nan),
        largest.probability if largest else np.nan,
        measured["brightness"][0],
        measured["sharpness"][0],
        perceptual_hashes(image),
    )
