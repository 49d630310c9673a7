"""The networks of every stage and fold, and their outputs for face crops."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np

from facecade.base.errors import FacecadeError
from facecade.base.threads import bounded_map
from facecade.combiner.stage_outputs import StageOutputs, concatenate
from facecade.inference.engines import Model
from facecade.training.pixels import padded_batch


@dataclass(frozen=True)
class Member:
    """A network of one stage or of several that share a backbone; of one fold, or of several that share it.

    model: crops, uint8 (batch, *size, 3), RGB → of each fold and each stage the embeddings in the folds' shared basis
    (batch, d) and the logits (batch, C), float32.
    """

    stages: Sequence[str]
    folds: Sequence[int]
    size: tuple[int, int]
    model: Model


@dataclass(frozen=True)
class Ensemble:
    """All folds of all stages.

    columns: names of each stage's logits, in the recipe's order. batch: crops in every call of a network, always exactly
    this many, because kernels for another shape may round differently. streams: networks that run at once.
    """

    members: Sequence[Member]
    columns: Mapping[str, tuple[str, ...]]
    batch: int
    streams: int

    def predict_chunks(self, chunks: Iterable[np.ndarray]) -> Iterator[dict[int, StageOutputs]]:
        """Each fold's stage outputs (N rows) for each chunk of crops, uint8 (N, h, w, 3), N up to `batch`; by fold.

        Each chunk is resized once to each input size. Networks start on the next chunk before the last one has finished
        this one.
        """
        sizes = {member.size for member in self.members}
        rows: deque[int] = deque()

        def inputs() -> Iterator[tuple[Member, np.ndarray]]:
            for crops in chunks:
                rows.append(len(crops))
                resized = {size: padded_batch(crops, size, self.batch) for size in sizes}
                for member in self.members:
                    yield member, resized[member.size]

        outputs = bounded_map(lambda each: each[0].model(each[1]), inputs(), self.streams, 2 * self.streams)
        while arrays := list(islice(outputs, len(self.members))):
            yield self._stage_outputs(arrays, rows.popleft())

    def predict_all(self, crops: np.ndarray) -> dict[int, StageOutputs]:
        """Each fold's stage outputs (N rows) for crops, uint8 (N, h, w, 3), for any N ≥ 1; by fold."""
        chunks = list(
            self.predict_chunks(crops[start : start + self.batch] for start in range(0, len(crops), self.batch))
        )
        return {fold: concatenate([each[fold] for each in chunks]) for fold in chunks[0]}

    def _stage_outputs(self, outputs: Sequence[Sequence[np.ndarray]], count: int) -> dict[int, StageOutputs]:
        """Stages in the recipe's order, whichever share a backbone: it is the order of the combiner's features."""
        widths: dict[str, int] = {}
        by_fold: dict[int, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        for member, arrays in zip(self.members, outputs, strict=True):
            if len(arrays) != 2 * len(member.folds) * len(member.stages):
                raise _other_outputs(member)
            pairs_of_member = zip(arrays[::2], arrays[1::2], strict=True)
            for (fold, stage), pair in zip(product(member.folds, member.stages), pairs_of_member, strict=True):
                width = widths.setdefault(stage, pair[0].shape[-1] if pair[0].ndim == 2 else 0)
                shapes = [(self.batch, width), (self.batch, len(self.columns[stage]))]
                floats = all(each.dtype.kind == "f" for each in pair)
                if not floats or [each.shape for each in pair] != shapes or not _finite(pair, count):
                    raise _other_outputs(member)
                by_fold.setdefault(fold, {})[stage] = pair
        return {
            fold: StageOutputs(
                {stage: pairs[stage][1][:count] for stage in self.columns},
                dict(self.columns),
                {stage: pairs[stage][0][:count] for stage in self.columns},
            )
            for fold, pairs in by_fold.items()
            if pairs.keys() == self.columns.keys()
        }


def _finite(arrays: Sequence[np.ndarray], rows: int) -> bool:
    """Whether the first rows of some arrays are finite."""
    return all(np.isfinite(each[:rows]).all() for each in arrays)


def _other_outputs(member: Member) -> FacecadeError:
    folds = ", ".join(map(str, member.folds))
    return FacecadeError(
        f"the network of {', '.join(member.stages)} (fold {folds}) gives outputs of another shape, or that are not finite",
        "fit it again; an export is written again by export",
    )
