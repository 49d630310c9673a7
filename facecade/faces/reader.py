"""File → face crop: hash, decode, detect, crop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from facecade.base.files import content_hash
from facecade.faces.crop import Box, crop
from facecade.faces.decode import DecodeError, decoded
from facecade.faces.detect import Detector, make_detector
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.recipe import Face

Known = TypeVar("Known")


@dataclass(frozen=True)
class FaceCrop:
    """The face crop of a file. content: hash of the file's bytes; box: the face (None: center crop); crop: uint8
    (h, w, 3), RGB; hashes: of the whole image, `duplicates.perceptual_hashes`, where the reader computes them."""

    content: str
    box: Box | None
    crop: np.ndarray
    hashes: np.ndarray | None = None


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
            known: content hash → what is returned for such a file instead; it is not decoded.
            nets: MTCNN's networks; by default torch runs them.
            hash_pixels: computes `FaceCrop.hashes`; None at inference, which does not need them.
        """
        self.face, self.known = face, known if known is not None else {}
        self._nets, self._hash_pixels = nets, hash_pixels
        self._detector: Detector | None = None

    def __call__(self, image: Path | np.ndarray) -> FaceCrop | Known | DecodeError:
        """
        Args:
            image: a file, or pixels, uint8 (height, width, 3), RGB, which have no content hash.
        """
        content = ""
        if isinstance(image, Path):
            content = content_hash(image)
            if content in self.known:
                return self.known[content]
            try:
                with decoded(image) as pixels:
                    return self._crop(content, pixels)
            except DecodeError as error:
                return error
        return self._crop(content, image)

    def _crop(self, content: str, pixels: np.ndarray) -> FaceCrop:
        if self._detector is None:
            self._detector = make_detector(self.face, self._nets)
        box = self._detector(pixels)
        hashes = self._hash_pixels(pixels) if self._hash_pixels else None
        return FaceCrop(content, box, crop(pixels, box, self.face), hashes)
