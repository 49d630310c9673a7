"""A file → its face crop: fingerprint, decode, find, cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from facecade.base.files import content_hash
from facecade.faces.crop import Box, crop
from facecade.faces.decode import DecodeError, decode
from facecade.faces.detect import Detector, make_detector
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.recipe import Face

Known = TypeVar("Known")


@dataclass(frozen=True)
class FaceCrop:
    """What was seen of a file. content: fingerprint of its bytes; box: its face (None: centre crop); crop: uint8
    (h, w, 3), RGB."""

    content: str
    box: Box | None
    crop: np.ndarray


class FaceReader(Generic[Known]):
    """Looks at images, from as many threads as one likes. The detector is made when the first of them needs it."""

    def __init__(self, face: Face, known: Mapping[str, Known] | None = None, nets: MTCNNNetworks | None = None) -> None:
        """
        Args:
            known: what is returned instead, undecoded, for a file of known content.
            nets: MTCNN's networks; by default torch runs them.
        """
        self.face, self.known = face, known if known is not None else {}
        self._nets = nets
        self._detector: Detector | None = None

    def __call__(self, image: Path | np.ndarray) -> FaceCrop | Known | DecodeError:
        """
        Args:
            image: a file, or pixels, uint8 (height, width, 3), RGB, which have no fingerprint.
        """
        content = ""
        if isinstance(image, Path):
            content = content_hash(image)
            if content in self.known:
                return self.known[content]
            try:
                image = decode(image)
            except DecodeError as error:
                return error
        if self._detector is None:
            self._detector = make_detector(self.face, self._nets)
        box = self._detector(image)
        return FaceCrop(content, box, crop(image, box, self.face))
