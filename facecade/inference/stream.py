"""Images of any number, seen and heard a chunk at a time: memory does not grow with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecade.base.threads import bounded_map
from facecade.combiner.stage_outputs import StageOutputs, concatenate
from facecade.faces.decode import DecodeError
from facecade.faces.reader import FaceCrop, FaceReader
from facecade.inference.ensemble import Ensemble

MAX_READ_CHUNKS = 8
"""Chunks' worth of images after which a chunk is heard though many of them cannot be seen."""


@dataclass(frozen=True)
class BatchOutputs:
    """Some images in their order: what was seen of each, and each fold's voices about those that could be seen."""

    faces: Sequence[FaceCrop | DecodeError]
    stage_outputs: dict[int, StageOutputs]

    @property
    def seen(self) -> np.ndarray:
        """Which of the images the voices are about, bool (N,)."""
        return np.array([isinstance(face, FaceCrop) for face in self.faces])


def stream(
    images: Sequence[Path | np.ndarray], face_reader: FaceReader[FaceCrop], ensemble: Ensemble, workers: int
) -> Iterator[BatchOutputs]:
    """All images in their order, a chunk of visible ones at a time.

    Threads decode, find and cut the next chunks while the networks answer for one, and never run further ahead.
    """
    waiting: deque[list[FaceCrop | DecodeError]] = deque()

    def chunks() -> Iterator[np.ndarray]:
        blank = np.empty((0, *face_reader.face.size, 3), np.uint8)
        faces: list[FaceCrop | DecodeError] = []
        crops: list[np.ndarray] = []
        for face in bounded_map(face_reader, images, workers, ahead=2 * max(workers, ensemble.batch)):
            faces.append(face)
            if isinstance(face, FaceCrop):
                crops.append(face.crop)
            if len(crops) == ensemble.batch or len(faces) == MAX_READ_CHUNKS * ensemble.batch:
                waiting.append(faces)
                yield np.stack(crops) if crops else blank
                faces, crops = [], []
        if faces:
            waiting.append(faces)
            yield np.stack(crops) if crops else blank

    for stage_outputs in ensemble.predict_chunks(chunks()):
        yield BatchOutputs(waiting.popleft(), stage_outputs)


def regrouped(parts: Iterable[BatchOutputs], least: int, advance: Callable[[int], None]) -> Iterator[BatchOutputs]:
    """The same images, in pieces of at least so many (but for the last).

    Args:
        advance: called with the number of images of each part.
    """
    waiting: list[BatchOutputs] = []
    for part in parts:
        waiting.append(part)
        advance(len(part.faces))
        if sum(len(each.faces) for each in waiting) >= least:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    folds = {fold: concatenate([part.stage_outputs[fold] for part in parts]) for fold in parts[0].stage_outputs}
    return BatchOutputs([face for part in parts for face in part.faces], folds)
