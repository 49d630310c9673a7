"""Image and face box → face crop: one geometry, for training and inference."""

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
"""Where eyes, nose and mouth's corners of an aligned face are, as shares of a square's side. `arcface`: as InsightFace has it
(arXiv:1801.07698), by which SFace and many other networks were trained; `eyes`: the eyes of that alone, since a mask hides the rest."""

STEPS = 4
"""Places in a pixel at which a landmark may be: one that moved by rounding error must not change the crop."""


@dataclass(frozen=True)
class Box:
    """A face in pixels of its image, and how sure the detector was (0..1). landmarks: x and y of both eyes, the nose and the
    mouth's corners; none where the detector tells none."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float
    landmarks: tuple[Point, ...] = ()

    @property
    def values(self) -> list[float]:
        """What `box_of` takes: left, top, right, bottom, probability, then x and y of each landmark."""
        sides = [self.left, self.top, self.right, self.bottom, self.probability]
        return [*sides, *(value for point in self.landmarks for value in point)]


def box_of(values: Sequence[float]) -> Box:
    """A box from its `values`."""
    left, top, right, bottom, probability, *places = values
    return Box(left, top, right, bottom, probability, tuple(zip(places[::2], places[1::2], strict=True)))


def crop(image: np.ndarray, box: Box | None, face: Face) -> np.ndarray:
    """Cut the face out at the recipe's size; without a box, the centre of the image.

    The cut has the aspect ratio of `face.size`, is as large as the box with its margin needs, and
    is black where it reaches beyond the image. With `face.align` it is turned and scaled so that the landmarks come to lie as in
    the template (least squares, Umeyama 1991, doi:10.1109/34.88573), whose square has the margin instead.

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
        tall, wide = image.shape[:2]
        side = min(tall, wide / aspect) * face.fallback
        middle = (wide / 2, tall / 2)
    else:
        side = max(box.bottom - box.top, (box.right - box.left) / aspect) * (1 + face.margin)
        middle = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    # Whole pixels: a box that moved by rounding error must not change the crop.
    left, top = round(middle[0] - side * aspect / 2), round(middle[1] - side / 2)
    right, bottom = left + max(1, round(side * aspect)), top + max(1, round(side))
    cropped = Image.fromarray(image).crop((left, top, right, bottom))
    return np.asarray(cropped.resize((width, height), Image.Resampling.BILINEAR))


def _aligned(image: np.ndarray, landmarks: Sequence[Point], face: Face) -> np.ndarray:
    """The face, turned and scaled to its template."""
    height, width = face.size
    template = np.array(TEMPLATES[face.template])
    wanted = (template - 0.5) * height / (1 + face.margin) + (width / 2, height / 2)
    found = np.round(np.array(landmarks[: len(template)]) * STEPS) / STEPS
    turn, shift = _similarity(wanted, found)
    picture, finer = Image.fromarray(image), max(1, int(np.hypot(*turn[0])))
    if finer > 1:  # a large image is averaged first: bilinear interpolation sees four pixels alone
        picture = picture.reduce(finer)
    matrix = np.column_stack([turn, shift]) / finer
    return np.asarray(
        picture.transform((width, height), Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BILINEAR)
    )


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The turn and scale (2, 2), and the shift (2,), that bring points (n, 2) nearest to others, without a mirror image."""
    middles = source.mean(0), target.mean(0)
    away, wanted = source - middles[0], target - middles[1]
    # Points as complex numbers: turning and scaling is a multiplication, and least squares has one solution.
    first, second = away @ (1, 1j), wanted @ (1, 1j)
    factor = np.vdot(first, second) / np.vdot(first, first)
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return turn, middles[1] - turn @ middles[0]
