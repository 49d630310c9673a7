"""The networks of every stage and fold, and what they say of face crops."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np

from facecade.base.threads import bounded_map
from facecade.combiner.stage_outputs import StageOutputs, concatenate
from facecade.inference.engines import Model
from facecade.training.pixels import chunk


@dataclass(frozen=True)
class Member:
    """A network of a stage, or of several on one backbone, in one fold, or in several where all have the same backbone. model: crops, uint8
    (batch, *size, 3), RGB → of each fold and each stage embeddings in the folds' shared basis (batch, d) and logits (batch, C), float32."""

    stages: Sequence[str]
    folds: Sequence[int]
    size: tuple[int, int]
    model: Model


@dataclass(frozen=True)
class Ensemble:
    """All folds of all stages.

    columns: names of each stage's logits, in the recipe's order. batch: crops that a network sees at once, always exactly so many, because
    kernels for another shape may round differently. streams: networks that answer at once.
    """

    members: Sequence[Member]
    columns: Mapping[str, tuple[str, ...]]
    batch: int
    streams: int

    def predict_chunks(self, chunks: Iterable[np.ndarray]) -> Iterator[dict[int, StageOutputs]]:
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
            yield self._stage_outputs(said, rows.popleft())

    def predict_all(self, crops: np.ndarray) -> dict[int, StageOutputs]:
        """What each fold's networks say of crops, uint8 (N, h, w, 3), N ≥ 1 of any number: voices of N rows, by fold."""
        said = list(
            self.predict_chunks(crops[start : start + self.batch] for start in range(0, len(crops), self.batch))
        )
        return {fold: concatenate([chunk[fold] for chunk in said]) for fold in said[0]}

    def _stage_outputs(self, said: Sequence[Sequence[np.ndarray]], count: int) -> dict[int, StageOutputs]:
        """Stages in the recipe's order, whichever share a backbone: it is that of the combiner's features."""
        heard: dict[int, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        for member, arrays in zip(self.members, said, strict=True):
            pairs = zip(arrays[::2], arrays[1::2], strict=True)
            for (fold, stage), pair in zip(product(member.folds, member.stages), pairs, strict=True):
                heard.setdefault(fold, {})[stage] = pair
        return {
            fold: StageOutputs(
                {stage: of[stage][1][:count] for stage in self.columns},
                dict(self.columns),
                {stage: of[stage][0][:count] for stage in self.columns},
            )
            for fold, of in heard.items()
            if of.keys() == self.columns.keys()
        }
