"""Face crops, resized to a model's input size."""

from __future__ import annotations

import cv2
import numpy as np

cv2.setNumThreads(0)  # OpenCV's threads would compete with the models for cores


def resize(crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A crop at another size, with the interpolation of `training.augment.build`; uint8 (*size, 3)."""
    if crop.shape[:2] == tuple(size):
        return crop
    return np.asarray(cv2.resize(crop, size[::-1], interpolation=cv2.INTER_LINEAR))


def padded_batch(crops: np.ndarray, size: tuple[int, int], count: int) -> np.ndarray:
    """Up to `count` crops at a model's size, padded with black images to `count`: uint8 (count, *size, 3)."""
    batch = np.zeros((count, *size, 3), np.uint8)
    for index, crop in enumerate(crops):
        batch[index] = resize(crop, size)
    return batch
