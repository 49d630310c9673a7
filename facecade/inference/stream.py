"""Any number of images, read and predicted in chunks: memory does not grow with their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.base.choices import FaceChoice
from facecade.base.threads import bounded_map
from facecade.combiner.stage_outputs import StageOutputs, concatenate
from facecade.faces.decode import DecodeError
from facecade.faces.reader import AnyImage, FaceCrop, FaceReader
from facecade.inference.ensemble import Ensemble

MAX_READ_CHUNKS = 8
"""Chunk sizes of images read before a chunk is predicted even if too few of them are readable to fill it."""


@dataclass(frozen=True)
class BatchOutputs:
    """Images in order: the face crop, or each of the face crops, or error of each, and each fold's stage outputs for the
    crops."""

    faces: Sequence[FaceCrop | DecodeError]
    stage_outputs: dict[int, StageOutputs]

    @property
    def readable(self) -> np.ndarray:
        """Which of the images could be read, bool (N,)."""
        return np.array([isinstance(face, FaceCrop) for face in self.faces])

    @property
    def image(self) -> np.ndarray:
        """Which of the images each face or error is of, int (N,), from 0 for the first."""
        first = [isinstance(face, DecodeError) or face.number == 1 for face in self.faces]
        return np.cumsum(first) - 1

    @property
    def is_whole(self) -> bool:
        """Whether it ends with the last face of an image."""
        return not self.faces or isinstance(self.faces[-1], DecodeError) or self.faces[-1].is_last


def stream(
    images: Sequence[AnyImage],
    face_reader: FaceReader[FaceCrop],
    ensemble: Ensemble,
    workers: int,
    face_choice: FaceChoice = "largest",
) -> Iterator[BatchOutputs]:
    """Predict all images in order, a chunk of face crops at a time.

    While the networks run on one chunk, threads decode, detect and crop the next ones, with a bound on how far ahead.

    Args:
        face_choice: `largest`, or `all`; the faces of an image may then be in two chunks.
    """

    def read(image: AnyImage) -> Sequence[FaceCrop | DecodeError]:
        return face_reader.all_faces(image) if face_choice == "all" else [face_reader(image)]

    waiting: deque[list[FaceCrop | DecodeError]] = deque()

    def chunks() -> Iterator[np.ndarray]:
        no_crops = np.empty((0, *face_reader.face.size, 3), np.uint8)
        faces: list[FaceCrop | DecodeError] = []
        crops: list[np.ndarray] = []
        for found in bounded_map(read, images, workers, ahead=2 * max(workers, ensemble.batch)):
            for face in found:
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
    """The same images, in larger batches of at least `min_images` faces (the last may be smaller), with all faces of an image in
    the same batch.

    Args:
        advance: called with the number of images that begin in each part.
    """
    waiting: list[BatchOutputs] = []
    for part in parts:
        waiting.append(part)
        advance(int(part.image[-1]) + 1 if part.faces else 0)
        if part.is_whole and sum(len(each.faces) for each in waiting) >= min_images:
            yield _concatenated(waiting)
            waiting = []
    if waiting:
        yield _concatenated(waiting)


def _concatenated(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    folds = {fold: concatenate([part.stage_outputs[fold] for part in parts]) for fold in parts[0].stage_outputs}
    return BatchOutputs([face for part in parts for face in part.faces], folds)
