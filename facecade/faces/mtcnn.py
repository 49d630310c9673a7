"""MTCNN (arXiv:1604.02878): three small networks find faces, from coarse to fine.

The code between the networks uses only NumPy, so that any engine can run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

Net = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Pixels, float32 (N, 3, h, w), scaled from 0..255 to -1..1 → offsets of each box, float32 (N, 4), as shares of its
size, and the probability that it shows a face, float32 (N,). The first network returns both for a grid of boxes:
(1, 4, rows, columns) and (1, rows, columns). The last network also returns the landmarks (eyes, nose, corners of the
mouth), float32 (N, 10): five shares of the width from the left, then five of the height from the top."""

N_LANDMARKS = 5

PYRAMID_FACTOR = 0.709
"""Scale from each image of the pyramid to the next: about half the area."""

PNET_WINDOW, PNET_STRIDE = 12, 2
"""Side of the first network's window and its stride, in pixels."""


@dataclass(frozen=True)
class MTCNNNetworks:
    """The three networks, for inputs of 12, 24 and 48 pixels."""

    pnet: Net
    rnet: Net
    onet: Net


class MTCNN:
    """Image, uint8 (height, width, 3), RGB → its faces, float (n, 15): left, top, right, bottom, probability, and x and
    y of both eyes (the one on the image's left first), the nose, and the corners of the mouth.

    One image at a time: on a CPU batches gain little, and so a box never depends on the other images of a batch.
    Thread-safe.
    """

    def __init__(self, nets: MTCNNNetworks, min_face: int, thresholds: tuple[float, float, float]) -> None:
        """
        Args:
            min_face: height of the smallest face to find, in pixels.
            thresholds: minimum probability for each network.
        """
        self.nets, self.min_face, self.thresholds = nets, min_face, thresholds

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if min(image.shape[:2]) < self.min_face:  # the pyramid is empty
            return np.empty((0, 5 + 2 * N_LANDMARKS), np.float32)
        pixels = (image.astype(np.float32) - 127.5) * np.float32(1 / 128)
        boxes = self._propose(pixels)
        boxes, (offsets,) = self._refine(pixels, boxes, self.nets.rnet, 24, self.thresholds[1], (4,))
        kept = non_max_suppression(boxes, 0.7)
        boxes = _apply_offsets(boxes[kept], offsets[kept], 1)
        boxes, (offsets, shares) = self._refine(
            pixels, boxes, self.nets.onet, 48, self.thresholds[2], (4, 2 * N_LANDMARKS)
        )
        landmarks, boxes = _landmark_points(boxes, shares), _apply_offsets(boxes, offsets, 1)
        kept = non_max_suppression(boxes, 0.7, of_smaller=True)
        return np.column_stack([boxes[kept], landmarks[kept]])

    def _propose(self, pixels: np.ndarray) -> np.ndarray:
        """Boxes (n, 5) of the first network, on an image pyramid."""
        all_boxes, all_offsets = [np.empty((0, 5), np.float32)], [np.empty((0, 4), np.float32)]
        for scale in self._scales(min(pixels.shape[:2])):
            height, width = (int(side * scale + 1) for side in pixels.shape[:2])
            offsets, probability = self.nets.pnet(_to_nchw(area_resize(pixels, height, width)))
            rows, columns = np.nonzero(probability[0] >= self.thresholds[0])
            corner = np.column_stack([columns, rows]).astype(np.float32) * PNET_STRIDE
            ends = np.hstack(
                [np.floor((corner + 1) / np.float32(scale)), np.floor((corner + PNET_WINDOW) / np.float32(scale))]
            )
            boxes = np.column_stack([ends, probability[0, rows, columns]])
            kept = non_max_suppression(boxes, 0.5)
            all_boxes.append(boxes[kept])
            all_offsets.append(offsets[0, :, rows, columns].reshape(-1, 4)[kept])
        boxes = np.concatenate(all_boxes)
        kept = non_max_suppression(boxes, 0.7)
        return _apply_offsets(boxes[kept], np.concatenate(all_offsets)[kept], 0)

    def _scales(self, side: int) -> Iterator[float]:
        scale = PNET_WINDOW / self.min_face
        while side * scale >= PNET_WINDOW:
            yield scale
            scale *= PYRAMID_FACTOR

    def _refine(
        self, pixels: np.ndarray, boxes: np.ndarray, net: Net, size: int, threshold: float, widths: Sequence[int]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Run a network on boxes, made square; the boxes above the threshold, and its other outputs for them, `widths`
        columns each."""
        boxes = _square(boxes)
        height, width = pixels.shape[:2]
        ends = np.trunc(boxes[:, :4]).astype(int)
        left, top = np.maximum(ends[:, 0], 1) - 1, np.maximum(ends[:, 1], 1) - 1
        right, bottom = np.minimum(ends[:, 2], width), np.minimum(ends[:, 3], height)
        inside = np.flatnonzero((right > left) & (bottom > top))
        if not len(inside):
            return np.empty((0, 5), np.float32), [np.empty((0, width), np.float32) for width in widths]
        crops = [area_resize(pixels[top[i] : bottom[i], left[i] : right[i]], size, size) for i in inside]
        offsets, probability, *more = net(np.concatenate([_to_nchw(crop) for crop in crops]))
        passed = probability > threshold
        kept = np.column_stack([boxes[inside, :4], probability])[passed]
        return kept, [values[passed] for values in (offsets, *more)]


def area_resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize pixels (h, w, 3): each new pixel is the mean of those that it covers wholly or in part, float32."""
    old_height, old_width = pixels.shape[:2]
    rows = _area_weights(old_height, height) @ np.ascontiguousarray(pixels).reshape(old_height, old_width * 3)
    columns = rows.reshape(height, old_width, 3).transpose(1, 0, 2).reshape(old_width, height * 3)
    return (_area_weights(old_width, width) @ columns).reshape(width, height, 3).transpose(1, 0, 2)


@lru_cache(maxsize=4096)
def _area_weights(length: int, new_length: int) -> csr_array:
    """The matrix (new_length, length) that resizes a line: each row averages the pixels that a new pixel covers."""
    index = np.arange(new_length)
    first, end = index * length // new_length, -(-(index + 1) * length // new_length)
    count = end - first
    starts = np.concatenate([[0], np.cumsum(count)])
    columns = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, count)
    return csr_array((np.repeat(1 / count, count).astype(np.float32), columns, starts), shape=(new_length, length))


def _to_nchw(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _apply_offsets(boxes: np.ndarray, offsets: np.ndarray, extra: int) -> np.ndarray:
    """Move boxes (n, 5) by a network's offsets; `extra`: pixels added to a side where the network counts both ends."""
    sides = boxes[:, 2:4] - boxes[:, :2] + extra
    return np.column_stack([boxes[:, :4] + offsets * np.tile(sides, 2), boxes[:, 4]])


def _landmark_points(boxes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Landmarks (n, 10), x and y of each, from shares (n, 10) of the sides of boxes (n, 5)."""
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    points = boxes[:, :2, None] + sides[:, :, None] * shares.reshape(-1, 2, N_LANDMARKS) - 1
    return points.transpose(0, 2, 1).reshape(-1, 2 * N_LANDMARKS)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Square boxes (n, 5) with the same centers and the longer sides."""
    center, side = (boxes[:, :2] + boxes[:, 2:4]) / 2, (boxes[:, 2:4] - boxes[:, :2]).max(1, keepdims=True)
    return np.column_stack([center - side / 2, center + side / 2, boxes[:, 4]])


def non_max_suppression(boxes: np.ndarray, max_overlap: float, of_smaller: bool = False) -> np.ndarray:
    """Indices of the boxes (n, 5) to keep, by falling probability, so that no two overlap too much.

    Args:
        max_overlap: intersection over union; with `of_smaller` over the smaller area, counted in whole pixels.
    """
    extra = int(of_smaller)
    left, top, right, bottom = boxes[:, :4].T
    area = (right - left + extra) * (bottom - top + extra)
    order = np.argsort(-boxes[:, 4], kind="stable")
    if of_smaller:  # among equal probabilities the last box first, as in facenet-pytorch
        order = np.argsort(boxes[:, 4], kind="stable")[::-1]
    remaining, kept = order, []
    while len(remaining):
        first, others = remaining[0], remaining[1:]
        kept.append(first)
        width = np.minimum(right[first], right[others]) - np.maximum(left[first], left[others]) + extra
        height = np.minimum(bottom[first], bottom[others]) - np.maximum(top[first], top[others]) + extra
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        whole = np.minimum(area[first], area[others]) if of_smaller else area[first] + area[others] - intersection
        remaining = others[intersection <= max_overlap * whole]
    return np.array(kept, int)
