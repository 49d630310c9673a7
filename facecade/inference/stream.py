"""Any number of images, read and predicted in chunks: memory does not grow with their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.base.threads import bounded_map
from facecade.combiner.stage_outputs import StageOutputs, concatenate
from facecade.faces.boxes import ImageFile
from facecade.faces.decode import DecodeError
from facecade.faces.reader import FaceCrop, FaceReader
from facecade.inference.ensemble import Ensemble

MAX_READ_CHUNKS = 8
"""Chunk sizes of images read before a chunk is predicted even if too few of them are readable to fill it."""


@dataclass(frozen=True)
class BatchOutputs:
    """Images in order: the face crop or error of each, and each fold's stage outputs for the readable ones."""

    faces: Sequence[FaceCrop | DecodeError]
    stage_outputs: dict[int, StageOutputs]

    @property
    def readable(self) -> np.ndarray:
        """Which of the images could be read, bool (N,)."""
        return np.array([isinstance(face, FaceCrop) for face in self.faces])


def stream(
    images: Sequence[ImageFile | np.ndarray], face_reader: FaceReader[FaceCrop], ensemble: Ensemble, workers: int
) -> Iterator[BatchOutputs]:
    """Predict all images in order, a chunk of readable ones at a time.

    While the networks run on one chunk, threads decode, detect and crop the next ones, with a bound on how far ahead.
    """
    waiting: deque[list[FaceCrop | DecodeError]] = deque()

    def chunks() -> Iterator[np.ndarray]:
        no_crops = np.empty((0, *face_reader.face.size, 3), np.uint8)
        faces: list[FaceCrop | DecodeError] = []
        crops: list[np.ndarray] = []
        for face in bounded_map(face_reader, images, workers, ahead=2 * max(workers, ensemble.batch)):
            faces.append(face)
            if isinstance(face, FaceCrop):
                crops.append(face.crop)
            if len(crops) == ensemble.batch or len(faces) == MAX_READ_CHUNKS * ensemble.batch:
                waiting.append(faces)
                yield np.stack(crops) if crops else no_crops
                faces, crops = [], []
        if faces:
            waiting.append(faces)
            yield np.stack(crops) if crops else no_crops

    for stage_outputs in ensemble.predict_chunks(chunks()):
        yield BatchOutputs(waiting.popleft(), stage_outputs)


def regroup(parts: Iterable[BatchOutputs], min_images: int, advance: Callable[[int], None]) -> Iterator[BatchOutputs]:
    """The same images, in larger batches of at min_images `min_images` images (the last may be smaller).

    Args:
        advance: called with the number of images in each part.
    """
    waiting: list[BatchOutputs] = []
    for part in parts:
        waiting.append(part)
        advance(len(part.faces))
        if sum(len(each.faces) for each in waiting) >= min_images:
            yield _concatenated(waiting)
            waiting = []
    if waiting:
        yield _concatenated(waiting)


def _concatenated(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    folds = {fold: concatenate([part.stage_outputs[fold] for part in parts]) for fold in parts[0].stage_outputs}
    return BatchOutputs([face for part in parts for face in part.faces], folds)
