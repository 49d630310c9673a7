"""Image → the boxes of its faces: one detector, for training and inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from facecade.faces.crop import Box, box_of
from facecade.faces.mtcnn import MTCNN, MTCNNNetworks
from facecade.recipe import Face

Detector = Callable[[np.ndarray], "Box | None"]

Finder = Callable[[np.ndarray], list[Box]]

LARGEST = 1024
"""Longest side that is searched, in pixels: a camera's 24 megapixels would cost seconds."""


def make_detector(face: Face, nets: MTCNNNetworks | None = None) -> Detector:
    """A function from an image (uint8 HWC, RGB) to its largest face, or None. Any number of threads may call it.

    Args:
        nets: MTCNN's networks; by default torch runs them.
    """
    find = make_finder(face, nets)
    return lambda image: next(iter(find(image)), None)


def make_finder(face: Face, nets: MTCNNNetworks | None = None) -> Finder:
    """A function from an image to all its faces, the largest first; arguments as of `make_detector`."""
    if face.detector == "centre":
        return lambda image: []
    if nets is None:
        from facecade.faces.mtcnn_networks import torch_nets

        nets = torch_nets()
    mtcnn = MTCNN(nets, face.min_face, face.thresholds)

    def find(image: np.ndarray) -> list[Box]:
        scale = max(1.0, max(image.shape[:2]) / LARGEST)
        if scale > 1:
            size = (round(image.shape[1] / scale), round(image.shape[0] / scale))
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        boxes = mtcnn(image).astype(float)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        boxes[:, :4] *= scale
        boxes[:, 5:] *= scale
        return [box_of(face) for face in boxes[np.argsort(-area, kind="stable")].tolist()]

    return find
