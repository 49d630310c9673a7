"""How well a face crop can be seen: its brightness and its sharpness."""

from __future__ import annotations

import cv2
import numpy as np


def quality(crops: np.ndarray) -> dict[str, np.ndarray]:
    """Measure crops, one at a time, so that they may be a memory map.

    Brightness is the mean luma (ITU-R BT.601), 0 (black) to 255. Sharpness is the variance of the luma's Laplacian at the
    crop's size (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000):
    low where a picture is blurred, or was enlarged. Noise, contrast and the black edge of a crop that reaches beyond its
    image raise it, and so does a smaller crop: only crops of one size can be compared.

    Args:
        crops: uint8 (N, h, w, 3), RGB.

    Returns:
        `brightness` and `sharpness`, float64 (N,).
    """
    luma = (cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops)
    measured = [(each.mean(), cv2.Laplacian(each, cv2.CV_64F).var()) for each in luma]
    brightness, sharpness = np.array(measured, float).reshape(-1, 2).T
    return {"brightness": brightness, "sharpness": sharpness}
