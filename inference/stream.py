"""Photographs of any number, seen and heard a chunk at a time: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from base.threads import bounded_map
from combiner.features import Voices
from faces.decode import DecodeError
from faces.look import Look, Looker
from inference.ensemble import Ensemble
from recipe import Face
from training.predict import CHUNK


@dataclass(frozen=True)
class Heard:
    """Some photographs in their order: what was seen of each, and each fold's voices about those that could be seen
    (none where none could)."""

    looks: Sequence[Look | DecodeError]
    voices: dict[int, Voices]

    @property
    def seen(self) -> np.ndarray:
        """Which of the photographs the voices are about, bool (N,)."""
        return np.array([isinstance(look, Look) for look in self.looks])


def stream(paths: Sequence[Path], face: Face, ensemble: Ensemble, workers: int) -> Iterator[Heard]:
    """All photographs in their order, a chunk of visible ones at a time.

    Threads decode, find and cut the next chunks while the models answer for one.
    """
    looker: Looker[Look] = Looker(face)
    waiting: list[Look | DecodeError] = []
    crops: list[np.ndarray] = []
    for look in bounded_map(looker, paths, workers, ahead=2 * CHUNK):
        waiting.append(look)
        if isinstance(look, Look):
            crops.append(look.crop)
        if len(crops) == CHUNK or len(waiting) == 8 * CHUNK:
            yield Heard(waiting, ensemble.hear(np.stack(crops)) if crops else {})
            waiting, crops = [], []
    if waiting:
        yield Heard(waiting, ensemble.hear(np.stack(crops)) if crops else {})
