"""Photograph → the box of its face: one detector, for training and inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from faces.crop import Box
from faces.mtcnn import MTCNN, Nets
from recipe import Face

Detector = Callable[[np.ndarray], "Box | None"]

LARGEST = 1024
"""Longest side that is searched, in pixels: a camera's 24 megapixels would cost seconds."""


def make_detector(face: Face, nets: Nets | None = None) -> Detector:
    """A function from a photograph (uint8 HWC, RGB) to its largest face, or None. Any number of threads may call it.

    Args:
        nets: MTCNN's networks; by default torch runs them.
    """
    if face.detector == "centre":
        return lambda photograph: None
    if nets is None:
        from faces.mtcnn_networks import torch_nets

        nets = torch_nets()
    mtcnn = MTCNN(nets, face.min_face, face.thresholds)

    def detect(photograph: np.ndarray) -> Box | None:
        scale = max(1.0, max(photograph.shape[:2]) / LARGEST)
        if scale > 1:
            size = (round(photograph.shape[1] / scale), round(photograph.shape[0] / scale))
            photograph = np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.BILINEAR))
        boxes = mtcnn(photograph)
        if not len(boxes):
            return None
        boxes = boxes.astype(float)
        largest = int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
        left, top, right, bottom = (boxes[largest, :4] * scale).tolist()
        return Box(left, top, right, bottom, float(boxes[largest, 4]))

    return detect
