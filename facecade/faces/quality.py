"""Quality of face crops: brightness and sharpness."""

from __future__ import annotations

import cv2
import numpy as np


def quality(crops: np.ndarray) -> dict[str, np.ndarray]:
    """Measure crops one at a time, so that `crops` can be a memory map.

    Brightness is the mean luma (ITU-R BT.601), 0 (black) to 255. Sharpness is the variance of the luma's Laplacian at
    the crop's size (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR
    2000): low if an image is blurred or was enlarged. Noise, contrast and the black edge of a crop that reaches beyond
    its image raise it, and so does a smaller crop size: compare only crops of one size.

    Args:
        crops: uint8 (N, h, w, 3), RGB.

    Returns:
        `brightness` and `sharpness`, float64 (N,).
    """
    luma = (cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops)
    measured = [(plane.mean(), cv2.Laplacian(plane, cv2.CV_64F).var()) for plane in luma]
    brightness, sharpness = np.array(measured, float).reshape(-1, 2).T
    return {"brightness": brightness, "sharpness": sharpness}
