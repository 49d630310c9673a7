"""File → face crop: hash, decode, detect, crop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from facecade.base.files import bytes_hash, content_hash
from facecade.faces.boxes import BoxedImage, ImageFile, box_in_pixels, crop_key, path_of
from facecade.faces.crop import Box, crop
from facecade.faces.decode import DecodeError, Fetchable, ImageBytes, decoded
from facecade.faces.detect import AllFacesDetector, make_all_faces_detector
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.recipe import Face

Known = TypeVar("Known")

AnyImage = ImageFile | Fetchable | np.ndarray
"""A file, possibly with its face's box; a file elsewhere; or pixels, uint8 (height, width, 3), RGB, which have no content hash."""

MAX_FACES = 100
"""Faces of an image that are read, the largest ones; `FaceCrop.faces` counts all."""


@dataclass(frozen=True)
class FaceCrop:
    """A face crop of a file. content: hash of the file's bytes; box: the face (None: center crop); crop: uint8
    (h, w, 3), RGB; hashes: of the whole image, `duplicates.perceptual_hashes`, where the reader computes them; given: the box
    as it came with the data, in pixels of the file; faces: how many the image has, None where nobody looked for them;
    number: of this face, 1 for the largest."""

    content: str
    box: Box | None
    crop: np.ndarray
    hashes: np.ndarray | None = None
    given: Box | None = None
    faces: int | None = None
    number: int = 1

    @property
    def is_last(self) -> bool:
        """Whether it is the last face of its image, where all are read."""
        return self.number >= min(self.faces or 1, MAX_FACES)


class FaceReader(Generic[Known]):
    """Reads images, thread-safe. The detector is made when it is first needed."""

    def __init__(
        self,
        face: Face,
        known: Mapping[str, Known] | None = None,
        nets: MTCNNNetworks | None = None,
        hash_pixels: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """
        Args:
            known: `boxes.crop_key` → what is returned for such a file instead; it is not decoded.
            nets: MTCNN's networks; by default torch runs them.
            hash_pixels: computes `FaceCrop.hashes`; None at inference, which does not need them.
        """
        self.face, self.known = face, known if known is not None else {}
        self._nets, self._hash_pixels = nets, hash_pixels
        self._find: AllFacesDetector | None = None

    def __call__(self, image: AnyImage) -> FaceCrop | Known | DecodeError:
        """The largest face of an image; where none is found, the center crop."""
        if isinstance(image, np.ndarray):
            return self._largest("", image)
        given = image.box if isinstance(image, BoxedImage) else None
        try:
            file = path_of(image) if isinstance(image, Path | BoxedImage) else image.fetch()
            content = _content(file)
            if (key := crop_key(content, given)) in self.known:
                return self.known[key]
            with decoded(file) as pixels:
                if isinstance(image, BoxedImage):
                    box = box_in_pixels(image, pixels.shape[1])
                    return self._crop(content, pixels, box, given, faces=1)
                return self._largest(content, pixels)
        except DecodeError as error:
            return error

    def all_faces(self, image: AnyImage) -> Sequence[FaceCrop | Known | DecodeError]:
        """Every face of an image, the largest first; where none is found, the center crop, as `__call__` gives it."""
        if isinstance(image, BoxedImage):
            return [self(image)]
        if isinstance(image, np.ndarray):
            return self._all("", image)
        try:
            file = image if isinstance(image, Path) else image.fetch()
            content = _content(file)
            with decoded(file) as pixels:
                return self._all(content, pixels)
        except DecodeError as error:
            return [error]

    def _largest(self, content: str, pixels: np.ndarray) -> FaceCrop:
        boxes, faces = self._boxes(pixels)
        return self._crop(content, pixels, boxes[0], faces=faces)

    def _all(self, content: str, pixels: np.ndarray) -> list[FaceCrop]:
        boxes, faces = self._boxes(pixels)
        return [
            self._crop(content, pixels, box, faces=faces, number=number)
            for number, box in enumerate(boxes[:MAX_FACES], start=1)
        ]

    def _boxes(self, pixels: np.ndarray) -> tuple[Sequence[Box | None], int | None]:
        """The faces to crop, the largest first, or None for the center; and how many were found."""
        if self.face.detector == "centre":
            return [None], None
        if self._find is None:
            self._find = make_all_faces_detector(self.face, self._nets)
        boxes = self._find(pixels)
        return boxes or [None], len(boxes)

    def _crop(
        self,
        content: str,
        pixels: np.ndarray,
        box: Box | None,
        given: Box | None = None,
        faces: int | None = None,
        number: int = 1,
    ) -> FaceCrop:
        hashes = self._hash_pixels(pixels) if self._hash_pixels else None
        return FaceCrop(content, box, crop(pixels, box, self.face), hashes, given, faces, number)


def _content(file: Path | ImageBytes) -> str:
    return content_hash(file) if isinstance(file, Path) else bytes_hash(file.data)
