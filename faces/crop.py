"""Photograph → face box → face crop: one detector, one geometry, for training and inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from recipe import Face

Detector = Callable[[np.ndarray], "Box | None"]


@dataclass(frozen=True)
class Box:
    """A face in pixels of its photograph, and how sure the detector was (0..1)."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float


def make_detector(face: Face) -> Detector:
    """A function from a photograph (uint8 HWC) to its largest face, or None.

    MTCNN (arXiv:1604.02878) comes from facenet-pytorch with its weights. Photographs are
    detected one at a time: batching gains little on a processor, and this way a box never depends on
    which photographs happened to be neighbours.
    """
    if face.detector == "centre":
        return lambda photograph: None
    import torch
    from facenet_pytorch import MTCNN

    mtcnn = MTCNN(min_face_size=face.min_face, thresholds=list(face.thresholds), keep_all=True, device="cpu").eval()

    def detect(photograph: np.ndarray) -> Box | None:
        scale = max(1.0, max(photograph.shape[:2]) / 1024)  # a camera's 24 megapixels would cost seconds
        if scale > 1:
            size = (round(photograph.shape[1] / scale), round(photograph.shape[0] / scale))
            photograph = np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.BILINEAR))
        if min(photograph.shape[:2]) < face.min_face:  # MTCNN would have no scale to look at
            return None
        with torch.no_grad():
            boxes, probabilities = mtcnn.detect(photograph)
        if boxes is None or not len(boxes):
            return None
        boxes = np.asarray(boxes, dtype=float) * scale
        largest = int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
        left, top, right, bottom = boxes[largest].tolist()
        return Box(left, top, right, bottom, float(probabilities[largest]))

    return detect


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
