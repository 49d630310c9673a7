"""File → face crop: hash, decode, detect, crop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from facecade.base.files import content_hash
from facecade.faces.boxes import BoxedImage, ImageFile, box_in_pixels, crop_key, path_of
from facecade.faces.crop import Box, crop
from facecade.faces.decode import DecodeError, decoded
from facecade.faces.detect import Detector, make_detector
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.recipe import Face

Known = TypeVar("Known")


@dataclass(frozen=True)
class FaceCrop:
    """The face crop of a file. content: hash of the file's bytes; box: the face (None: center crop); crop: uint8
    (h, w, 3), RGB; hashes: of the whole image, `duplicates.perceptual_hashes`, where the reader computes them; given: the box
    as it came with the data, in pixels of the file."""

    content: str
    box: Box | None
    crop: np.ndarray
    hashes: np.ndarray | None = None
    given: Box | None = None


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
        self._detector: Detector | None = None

    def __call__(self, image: ImageFile | np.ndarray) -> FaceCrop | Known | DecodeError:
        """
        Args:
            image: a file, possibly with its face's box, or pixels, uint8 (height, width, 3), RGB, which have no content hash.
        """
        if isinstance(image, np.ndarray):
            return self._crop("", image, self._detected(image))
        content, given = content_hash(path_of(image)), image.box if isinstance(image, BoxedImage) else None
        if (key := crop_key(content, given)) in self.known:
            return self.known[key]
        try:
            with decoded(path_of(image)) as pixels:
                if isinstance(image, BoxedImage):
                    return self._crop(content, pixels, box_in_pixels(image, pixels.shape[1]), given)
                return self._crop(content, pixels, self._detected(pixels))
        except DecodeError as error:
            return error

    def _detected(self, pixels: np.ndarray) -> Box | None:
        if self._detector is None:
            self._detector = make_detector(self.face, self._nets)
        return self._detector(pixels)

    def _crop(self, content: str, pixels: np.ndarray, box: Box | None, given: Box | None = None) -> FaceCrop:
        hashes = self._hash_pixels(pixels) if self._hash_pixels else None
        return FaceCrop(content, box, crop(pixels, box, self.face), hashes, given)
