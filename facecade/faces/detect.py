"""Image → the boxes of its faces: the same detector for training and inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.faces.crop import Box, box_from_values
from facecade.faces.mtcnn import MTCNN, MTCNNNetworks
from facecade.recipe import Face

AllFacesDetector = Callable[[np.ndarray], list[Box]]

MAX_SIDES = 8
"""How far from the image's corner a face may end, in sides of the image; beyond it, a crop would need too much memory."""

MAX_SIDE = 1024
"""Images are reduced to this longest side, in pixels, before detection: 24 megapixels would take seconds."""


def make_all_faces_detector(face: Face, nets: MTCNNNetworks | None = None) -> AllFacesDetector:
    """A function from an image (uint8 HWC, RGB) to all its faces, the largest first. It is thread-safe.

    Args:
        nets: MTCNN's networks; by default torch runs them.
    """
    if face.detector == "centre":
        return lambda image: []
    if nets is None:
        from facecade.faces.mtcnn_networks import torch_nets

        nets = torch_nets()
    mtcnn = MTCNN(nets, face.min_face, face.thresholds)

    def detect_all(image: np.ndarray) -> list[Box]:
        scale = max(1.0, max(image.shape[:2]) / MAX_SIDE)
        if scale > 1:
            size = (max(1, round(image.shape[1] / scale)), max(1, round(image.shape[0] / scale)))
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        boxes = mtcnn(image).astype(float)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        if not (np.abs(np.delete(boxes, 4, axis=1)) <= MAX_SIDES * max(image.shape[:2])).all():
            raise FacecadeError("the face detector gives boxes far outside the image", "export the run again")
        boxes[:, :4] *= scale
        boxes[:, 5:] *= scale
        return [box_from_values(face) for face in boxes[np.argsort(-area, kind="stable")].tolist()]

    return detect_all
