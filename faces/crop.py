"""Photograph and face box → face crop: one geometry, for training and inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from recipe import Face


@dataclass(frozen=True)
class Box:
    """A face in pixels of its photograph, and how sure the detector was (0..1)."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float


def crop(photograph: np.ndarray, box: Box | None, face: Face) -> np.ndarray:
    """Cut the face out at the recipe's size; without a box, the centre of the photograph.

    The cut has the aspect ratio of `face.size`, is as large as the box with its margin needs, and
    is black where it reaches beyond the photograph.

    Args:
        photograph: uint8 (height, width, 3), RGB.

    Returns:
        uint8 (*face.size, 3), RGB.
    """
    height, width = face.size
    aspect = width / height
    if box is None:
        tall, wide = photograph.shape[:2]
        side = min(tall, wide / aspect) * face.fallback
        middle = (wide / 2, tall / 2)
    else:
        side = max(box.bottom - box.top, (box.right - box.left) / aspect) * (1 + face.margin)
        middle = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    # Whole pixels: a box that moved by rounding error must not change the crop.
    left, top = round(middle[0] - side * aspect / 2), round(middle[1] - side / 2)
    right, bottom = left + max(1, round(side * aspect)), top + max(1, round(side))
    image = Image.fromarray(photograph).crop((left, top, right, bottom))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
