"""The networks of every stage and fold, and what they say of face crops."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from base.threads import bounded_map
from combiner.features import Voices
from inference.engines import Model
from training.pixels import chunk


@dataclass(frozen=True)
class Member:
    """One fold's network of a stage. model: crops, uint8 (batch, *size, 3), RGB → embeddings in the folds' shared basis
    (batch, d) and logits (batch, C), float32."""

    stage: str
    fold: int
    size: tuple[int, int]
    model: Model


@dataclass(frozen=True)
class Ensemble:
    """All folds of all stages.

    columns: names of each stage's logits. batch: crops that a network sees at once, always exactly so many, because
    kernels for another shape may round differently. streams: networks that answer at once.
    """

    members: Sequence[Member]
    columns: Mapping[str, tuple[str, ...]]
    batch: int
    streams: int

    def hear(self, chunks: Iterable[np.ndarray]) -> Iterator[dict[int, Voices]]:
        """What each fold's networks say of each chunk of crops, uint8 (N, h, w, 3), N up to `batch`: voices of N rows, by fold.

        Each chunk is brought once to each size that some network wants. Networks go on to the next chunk before the last
        has answered for this one.
        """
        sizes = {member.size for member in self.members}
        rows: deque[int] = deque()

        def questions() -> Iterator[tuple[Member, np.ndarray]]:
            for crops in chunks:
                rows.append(len(crops))
                shown = {size: chunk(crops, size, self.batch) for size in sizes}
                for member in self.members:
                    yield member, shown[member.size]

        answers = bounded_map(
            lambda question: question[0].model(question[1]), questions(), self.streams, 2 * self.streams
        )
        while said := list(islice(answers, len(self.members))):
            yield self._voices(said, rows.popleft())

    def _voices(self, said: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> dict[int, Voices]:
        voices: dict[int, Voices] = {}
        for member, (embedding, logits) in zip(self.members, said, strict=True):
            of_fold = voices.setdefault(member.fold, Voices({}, dict(self.columns), {}))
            of_fold.embedding[member.stage], of_fold.logits[member.stage] = embedding[:count], logits[:count]
        return voices
