"""MTCNN (arXiv:1604.02878): three small networks find faces, from coarse to fine.

What lies between the networks is NumPy's, so that any engine may run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

Net = Callable[[np.ndarray], Sequence[np.ndarray]]
"""float32 (N, 3, h, w), a pixel's 0..255 brought to -1..1 → how far each box is off, float32 (N, 4) in shares of its
size, and the probability that it shows a face, float32 (N,). The first network says both for a grid of boxes:
(1, 4, rows, columns) and (1, rows, columns). The last one says besides where the eyes, the nose and the mouth's corners are,
float32 (N, 10): five shares of the width from the left, then five of the height from the top."""

LANDMARKS = 5

STEP = 0.709
"""Each picture of the pyramid is so much smaller than the one before: half the area."""

CELL, STRIDE = 12, 2
"""Pixels that the first network sees at a place, and how far its places lie apart."""


@dataclass(frozen=True)
class MTCNNNetworks:
    """The three networks: of 12, 24 and 48 pixels."""

    pnet: Net
    rnet: Net
    onet: Net


class MTCNN:
    """Image, uint8 (height, width, 3), RGB → its faces, float (n, 15): left, top, right, bottom, probability, and x and y of
    both eyes (the one on the image's left first), the nose, and the mouth's corners.

    One image at a time: on a processor batches gain little, and this way a box never depends on which
    images happened to be neighbours. Any number of threads may ask.
    """

    def __init__(self, nets: MTCNNNetworks, min_face: int, thresholds: tuple[float, float, float]) -> None:
        """
        Args:
            min_face: height of the smallest face searched, in pixels.
            thresholds: least probability that passes each network.
        """
        self.nets, self.min_face, self.thresholds = nets, min_face, thresholds

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if min(image.shape[:2]) < self.min_face:  # there is no scale to look at
            return np.empty((0, 5 + 2 * LANDMARKS), np.float32)
        pixels = (image.astype(np.float32) - 127.5) * np.float32(1 / 128)
        boxes = self._proposed(pixels)
        boxes, (off,) = self._passed(pixels, boxes, self.nets.rnet, 24, self.thresholds[1], (4,))
        kept = non_max_suppression(boxes, 0.7)
        boxes = _moved(boxes[kept], off[kept], 1)
        boxes, (off, shares) = self._passed(pixels, boxes, self.nets.onet, 48, self.thresholds[2], (4, 2 * LANDMARKS))
        landmarks, boxes = _points(boxes, shares), _moved(boxes, off, 1)
        kept = non_max_suppression(boxes, 0.7, of_smaller=True)
        return np.column_stack([boxes[kept], landmarks[kept]])

    def _proposed(self, pixels: np.ndarray) -> np.ndarray:
        """Boxes (n, 5) by the first network, on pictures of falling size."""
        found, off = [np.empty((0, 5), np.float32)], [np.empty((0, 4), np.float32)]
        for scale in self._scales(min(pixels.shape[:2])):
            height, width = (int(side * scale + 1) for side in pixels.shape[:2])
            offsets, face = self.nets.pnet(_planes(average(pixels, height, width)))
            rows, columns = np.nonzero(face[0] >= self.thresholds[0])
            corner = np.column_stack([columns, rows]).astype(np.float32) * STRIDE
            ends = np.hstack(
                [np.floor((corner + 1) / np.float32(scale)), np.floor((corner + CELL) / np.float32(scale))]
            )
            boxes = np.column_stack([ends, face[0, rows, columns]])
            kept = non_max_suppression(boxes, 0.5)
            found.append(boxes[kept])
            off.append(offsets[0, :, rows, columns].reshape(-1, 4)[kept])
        boxes = np.concatenate(found)
        kept = non_max_suppression(boxes, 0.7)
        return _moved(boxes[kept], np.concatenate(off)[kept], 0)

    def _scales(self, side: int) -> Iterator[float]:
        scale = CELL / self.min_face
        while side * scale >= CELL:
            yield scale
            scale *= STEP

    def _passed(
        self, pixels: np.ndarray, boxes: np.ndarray, net: Net, size: int, threshold: float, widths: Sequence[int]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Boxes, made square, that a network takes for a face, and what else it says of each, of so many columns."""
        boxes = _square(boxes)
        height, width = pixels.shape[:2]
        ends = np.trunc(boxes[:, :4]).astype(int)
        left, top = np.maximum(ends[:, 0], 1) - 1, np.maximum(ends[:, 1], 1) - 1
        right, bottom = np.minimum(ends[:, 2], width), np.minimum(ends[:, 3], height)
        inside = np.flatnonzero((right > left) & (bottom > top))
        if not len(inside):
            return np.empty((0, 5), np.float32), [np.empty((0, width), np.float32) for width in widths]
        cuts = [average(pixels[top[i] : bottom[i], left[i] : right[i]], size, size) for i in inside]
        off, face, *more = net(np.concatenate([_planes(cut) for cut in cuts]))
        passed = face > threshold
        return np.column_stack([boxes[inside, :4], face])[passed], [values[passed] for values in (off, *more)]


def average(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (h, w, 3) at another size, each the mean of those that it covers in part or whole, float32."""
    tall, wide = pixels.shape[:2]
    rows = _covered(tall, height) @ np.ascontiguousarray(pixels).reshape(tall, wide * 3)
    columns = rows.reshape(height, wide, 3).transpose(1, 0, 2).reshape(wide, height * 3)
    return (_covered(wide, width) @ columns).reshape(width, height, 3).transpose(1, 0, 2)


@lru_cache(maxsize=4096)
def _covered(length: int, pieces: int) -> csr_array:
    """The matrix (pieces, length) that takes the mean of what each piece covers of a line."""
    place = np.arange(pieces)
    first, end = place * length // pieces, -(-(place + 1) * length // pieces)
    count = end - first
    starts = np.concatenate([[0], np.cumsum(count)])
    columns = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, count)
    return csr_array((np.repeat(1 / count, count).astype(np.float32), columns, starts), shape=(pieces, length))


def _planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _moved(boxes: np.ndarray, off: np.ndarray, more: int) -> np.ndarray:
    """Boxes (n, 5) by what a network says they are off; `more`: pixels that it counts a side longer."""
    sides = boxes[:, 2:4] - boxes[:, :2] + more
    return np.column_stack([boxes[:, :4] + off * np.tile(sides, 2), boxes[:, 4]])


def _points(boxes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Landmarks (n, 10), x and y of each, from their shares (n, 10) of boxes (n, 5)."""
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    places = boxes[:, :2, None] + sides[:, :, None] * shares.reshape(-1, 2, LANDMARKS) - 1
    return places.transpose(0, 2, 1).reshape(-1, 2 * LANDMARKS)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 5) around the same middle, as wide as tall."""
    middle, side = (boxes[:, :2] + boxes[:, 2:4]) / 2, (boxes[:, 2:4] - boxes[:, :2]).max(1, keepdims=True)
    return np.column_stack([middle - side / 2, middle + side / 2, boxes[:, 4]])


def non_max_suppression(boxes: np.ndarray, most: float, of_smaller: bool = False) -> np.ndarray:
    """Which boxes (n, 5) to keep, the surest first, so that no two overlap by more than a share: non-maximum suppression.

    Args:
        most: of the area that two boxes cover together; with `of_smaller` that of the smaller one, in whole pixels.
    """
    more = int(of_smaller)
    left, top, right, bottom = boxes[:, :4].T
    area = (right - left + more) * (bottom - top + more)
    surest = np.argsort(-boxes[:, 4], kind="stable")
    if of_smaller:  # of several that are equally sure the last, as facenet-pytorch has it
        surest = np.argsort(boxes[:, 4], kind="stable")[::-1]
    waiting, kept = surest, []
    while len(waiting):
        first, others = waiting[0], waiting[1:]
        kept.append(first)
        wide = np.minimum(right[first], right[others]) - np.maximum(left[first], left[others]) + more
        tall = np.minimum(bottom[first], bottom[others]) - np.maximum(top[first], top[others]) + more
        both = np.maximum(wide, 0) * np.maximum(tall, 0)
        whole = np.minimum(area[first], area[others]) if of_smaller else area[first] + area[others] - both
        waiting = others[both <= most * whole]
    return np.array(kept, int)
