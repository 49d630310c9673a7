"""Photographs of any number, seen and heard a chunk at a time: memory does not grow with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecade.base.threads import bounded_map
from facecade.combiner.features import Voices, join
from facecade.faces.decode import DecodeError
from facecade.faces.look import Look, Looker
from facecade.inference.ensemble import Ensemble

MOST_LOOKS = 8
"""Chunks' worth of photographs after which a chunk is heard though many of them cannot be seen."""


@dataclass(frozen=True)
class Heard:
    """Some photographs in their order: what was seen of each, and each fold's voices about those that could be seen."""

    looks: Sequence[Look | DecodeError]
    voices: dict[int, Voices]

    @property
    def seen(self) -> np.ndarray:
        """Which of the photographs the voices are about, bool (N,)."""
        return np.array([isinstance(look, Look) for look in self.looks])


def stream(paths: Sequence[Path], looker: Looker[Look], ensemble: Ensemble, workers: int) -> Iterator[Heard]:
    """All photographs in their order, a chunk of visible ones at a time.

    Threads decode, find and cut the next chunks while the networks answer for one, and never run further ahead.
    """
    waiting: deque[list[Look | DecodeError]] = deque()

    def chunks() -> Iterator[np.ndarray]:
        blank = np.empty((0, *looker.face.size, 3), np.uint8)
        looks: list[Look | DecodeError] = []
        crops: list[np.ndarray] = []
        for look in bounded_map(looker, paths, workers, ahead=2 * max(workers, ensemble.batch)):
            looks.append(look)
            if isinstance(look, Look):
                crops.append(look.crop)
            if len(crops) == ensemble.batch or len(looks) == MOST_LOOKS * ensemble.batch:
                waiting.append(looks)
                yield np.stack(crops) if crops else blank
                looks, crops = [], []
        if looks:
            waiting.append(looks)
            yield np.stack(crops) if crops else blank

    for voices in ensemble.hear(chunks()):
        yield Heard(waiting.popleft(), voices)


def gathered(parts: Iterable[Heard], least: int, advance: Callable[[int], None]) -> Iterator[Heard]:
    """The same photographs, in pieces of at least so many (but for the last).

    Args:
        advance: called with the number of photographs of each part.
    """
    waiting: list[Heard] = []
    for part in parts:
        waiting.append(part)
        advance(len(part.looks))
        if sum(len(each.looks) for each in waiting) >= least:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: Sequence[Heard]) -> Heard:
    folds = {fold: join([part.voices[fold] for part in parts]) for fold in parts[0].voices}
    return Heard([look for part in parts for look in part.looks], folds)
