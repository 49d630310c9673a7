"""Stage outputs of N rows as one named table of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from base.artifact import read_arrays
from base.errors import FacecadeError
from combiner.align import Alignment
from faces.labels import GENDERS

AGE_STAGES = tuple(f"age-{gender}" for gender in GENDERS)
NEEDED = ("mask", "gender", *AGE_STAGES)


@dataclass(frozen=True)
class FoldOutput:
    """What one fold's model says: of the rows it never saw, and of the anchors that all folds share.

    rows: int64 (n,), rows of the sample table, with embedding (n, D) and logits (n, C), float32;
    anchors: int64 (A,) with anchor_embedding (A, D).
    """

    rows: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    anchors: np.ndarray
    anchor_embedding: np.ndarray


def read_fold(folder: Path) -> FoldOutput:
    """The outputs that a fit left in its folder."""
    return FoldOutput(**read_arrays(folder / "outputs.npz"))


@dataclass(frozen=True)
class Voices:
    """What all stages say of N rows: logits (N, C) by stage, their column names, embeddings (N, d)."""

    logits: dict[str, np.ndarray]
    columns: dict[str, tuple[str, ...]]
    embedding: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.logits.values())))

    def take(self, rows: np.ndarray) -> Voices:
        """The voices of some rows."""
        return Voices(
            {stage: values[rows] for stage, values in self.logits.items()},
            self.columns,
            {stage: values[rows] for stage, values in self.embedding.items()},
        )

    def without_embedding(self) -> Voices:
        """The logits alone."""
        return Voices(self.logits, self.columns, {})

    def about(self, what: str) -> np.ndarray:
        """All logits (N, C) about `mask`, `gender`, `age-male` or `age-female`.

        The stage of that name and, of stages that answer several questions, the columns named for it.
        """
        part = "age." if what in AGE_STAGES else f"{what}."
        further = [
            values[:, [place for place, name in enumerate(self.columns[stage]) if name.startswith(part)]]
            for stage, values in self.logits.items()
            if stage not in NEEDED
        ]
        return np.column_stack([self.logits[what], *further]).astype(float)

    def years(self) -> np.ndarray:
        """Predicted age (N, 2) by the male and the female regressor, in years."""
        return np.column_stack([self.logits[stage][:, 0] for stage in AGE_STAGES]).astype(float)

    def gender(self) -> np.ndarray:
        """Probability (N, 2) of male and female."""
        return softmax(self.logits["gender"].astype(float), axis=1)

    def ages(self) -> np.ndarray:
        """Age estimate (N, 2) for a man and for a woman: that regressor's, averaged with further voices on age."""
        further = [
            values[:, [self.columns[stage].index("age.years")]]
            for stage, values in self.logits.items()
            if "age.years" in self.columns[stage]
        ]
        return np.mean([self.years(), *(np.repeat(values, 2, 1).astype(float) for values in further)], axis=0)

    def age(self) -> np.ndarray:
        """Age estimate (N,): the two of `ages`, weighted by how likely each gender is."""
        return (self.ages() * self.gender()).sum(1)


def out_of_fold(
    outputs: Mapping[str, list[FoldOutput]],
    columns: Mapping[str, tuple[str, ...]],
    rows: int,
    alignments: Mapping[str, Alignment],
) -> Voices:
    """Every row described by the models that never saw its person.

    Rows start as NaN, not 0: a row that no fold answered for would otherwise look like an answer.

    Raises:
        FacecadeError: a row without an out-of-fold answer.
    """
    logits, embedding = {}, {}
    for stage, folds in outputs.items():
        logits[stage] = np.full((rows, len(columns[stage])), np.nan, np.float32)
        embedding[stage] = np.full((rows, alignments[stage].matrix.shape[2]), np.nan, np.float32)
        for number, fold in enumerate(folds):
            logits[stage][fold.rows] = fold.logits
            embedding[stage][fold.rows] = alignments[stage].apply(number, fold.embedding)
        missing = int(np.isnan(logits[stage]).any(1).sum())
        if missing:
            raise FacecadeError(
                f"stage {stage} has no out-of-fold answer for {missing} rows", f"python cli.py fit-stage {stage}"
            )
    return Voices(logits, dict(columns), embedding)


def features(voices: Voices, cuts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The combiner's features and their names.

    Logits as they are (of two classes only their difference: the other column would be its
    mirror), ages in years, how far each regressor's age lies above its own cuts, the same weighted
    by gender, and the embeddings.

    Args:
        cuts: float (2, 2), lower and upper cut of the male and the female regressor.

    Returns:
        float32 (N, F) and F names.
    """
    columns: dict[str, np.ndarray] = {}
    for stage, values in voices.logits.items():
        names = voices.columns[stage]
        if len(names) == 2:
            columns[f"{stage}.{names[1]}-{names[0]}"] = values[:, 1] - values[:, 0]
        else:
            columns |= {f"{stage}.{name}": values[:, place] for place, name in enumerate(names)}
    years, gender = voices.years(), voices.gender()
    columns["age.weighted"] = (years * gender).sum(1)
    for place, which in enumerate(("lower", "upper")):
        distance = years - cuts[:, place]
        for index, stage in enumerate(AGE_STAGES):
            columns[f"{stage}.above_{which}"] = distance[:, index]
        columns[f"age.weighted_above_{which}"] = (distance * gender).sum(1)
    for stage, values in voices.embedding.items():
        columns |= {f"{stage}.embedding{place}": values[:, place] for place in range(values.shape[1])}
    return np.column_stack(list(columns.values())).astype(np.float32), list(columns)
