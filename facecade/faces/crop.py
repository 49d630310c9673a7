"""Image and face box → face crop: the same geometry for training and inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from facecade.recipe import Face


Point = tuple[float, float]

TEMPLATES: dict[str, tuple[Point, ...]] = {
    "arcface": (
        (38.2946 / 112, 51.6963 / 112),
        (73.5318 / 112, 51.5014 / 112),
        (56.0252 / 112, 71.7366 / 112),
        (41.5493 / 112, 92.3655 / 112),
        (70.7299 / 112, 92.2041 / 112),
    )
}
TEMPLATES["eyes"] = TEMPLATES["arcface"][:2]
"""Landmarks of an aligned face (eyes, nose, corners of the mouth), as shares of a square's side. `arcface`:
InsightFace's template (arXiv:1801.07698), with which SFace and many other networks were trained; `eyes`: only its eyes,
since a mask hides the rest."""

STEPS_PER_PIXEL = 4
"""Landmarks are rounded to 1 / STEPS_PER_PIXEL, so that a rounding error in a landmark does not change the crop."""


@dataclass(frozen=True)
class Box:
    """A face in pixels of its image, and the detector's probability (0..1). landmarks: x and y of both eyes, the nose
    and the corners of the mouth; empty where the detector gives none."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float
    landmarks: tuple[Point, ...] = ()

    @property
    def values(self) -> list[float]:
        """Left, top, right, bottom, probability, then x and y of each landmark; `box_from_values` is the inverse."""
        sides = [self.left, self.top, self.right, self.bottom, self.probability]
        return [*sides, *(value for point in self.landmarks for value in point)]


def box_from_values(values: Sequence[float]) -> Box:
    """A box from its `values`."""
    left, top, right, bottom, probability, *landmarks = values
    return Box(left, top, right, bottom, probability, tuple(zip(landmarks[::2], landmarks[1::2], strict=True)))


def crop(image: np.ndarray, box: Box | None, face: Face) -> np.ndarray:
    """Crop the face to the recipe's size; without a box, crop the center of the image.

    The crop has the aspect ratio of `face.size`, contains the box with its margin, and is black beyond the image. With
    `face.align` the image is rotated and scaled so that the landmarks match the template (least squares, Umeyama 1991,
    doi:10.1109/34.88573); the margin is then added to the template's square.

    Args:
        image: uint8 (height, width, 3), RGB.

    Returns:
        uint8 (*face.size, 3), RGB.
    """
    height, width = face.size
    aspect = width / height
    if face.align and box is not None and box.landmarks:
        return _aligned(image, box.landmarks, face)
    if box is None:
        image_height, image_width = image.shape[:2]
        side = min(image_height, image_width / aspect) * face.fallback
        center = (image_width / 2, image_height / 2)
    else:
        side = max(box.bottom - box.top, (box.right - box.left) / aspect) * (1 + face.margin)
        center = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    # Whole pixels, so that a rounding error in the box does not change the crop.
    left, top = round(center[0] - side * aspect / 2), round(center[1] - side / 2)
    right, bottom = left + max(1, round(side * aspect)), top + max(1, round(side))
    cropped = Image.fromarray(image).crop((left, top, right, bottom))
    return np.asarray(cropped.resize((width, height), Image.Resampling.BILINEAR))


def _aligned(image: np.ndarray, landmarks: Sequence[Point], face: Face) -> np.ndarray:
    """The face, rotated and scaled to its template."""
    height, width = face.size
    template = np.array(TEMPLATES[face.template])
    target = (template - 0.5) * height / (1 + face.margin) + (width / 2, height / 2)
    source = np.round(np.array(landmarks[: len(template)]) * STEPS_PER_PIXEL) / STEPS_PER_PIXEL
    rotation, shift = _similarity(target, source)
    pil_image, reduction = Image.fromarray(image), max(1, int(np.hypot(*rotation[0])))
    if reduction > 1:  # average a large image first: bilinear interpolation uses only four pixels
        pil_image = pil_image.reduce(reduction)
    matrix = np.column_stack([rotation, shift]) / reduction
    return np.asarray(
        pil_image.transform((width, height), Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BILINEAR)
    )


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation with scale (2, 2), and shift (2,), that map the source points (n, 2) to the target points by least
    squares, without a reflection."""
    centers = source.mean(0), target.mean(0)
    # Points as complex numbers: rotating and scaling is one multiplication, and least squares has a closed form.
    first, second = (source - centers[0]) @ (1, 1j), (target - centers[1]) @ (1, 1j)
    factor = np.vdot(first, second) / np.vdot(first, first)
    rotation = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return rotation, centers[1] - rotation @ centers[0]
