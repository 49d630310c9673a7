"""Face crops at a model's size, a chunk at a time."""

from __future__ import annotations

import cv2
import numpy as np

cv2.setNumThreads(0)  # the models need the cores; OpenCV's threads would fight them for those


def resize(crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What an unaugmented crop becomes, with the interpolation of `training.augment.build`; uint8 (*size, 3)."""
    if crop.shape[:2] == tuple(size):
        return crop
    return np.asarray(cv2.resize(crop, size[::-1], interpolation=cv2.INTER_LINEAR))


def chunk(crops: np.ndarray, size: tuple[int, int], count: int) -> np.ndarray:
    """Up to `count` crops at a model's size, and black ones up to `count`: uint8 (count, *size, 3)."""
    batch = np.zeros((count, *size, 3), np.uint8)
    for place, crop in enumerate(crops):
        batch[place] = resize(crop, size)
    return batch
