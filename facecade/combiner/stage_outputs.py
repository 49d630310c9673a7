"""The outputs of all stages for N rows: logits and embeddings by stage, and the probabilities and years in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from facecade.base.arrays import read_arrays
from facecade.base.errors import FacecadeError
from facecade.base.program import command
from facecade.combiner.align import Alignment
from facecade.faces.labels import BAND_EDGES, BANDS, GENDERS, MASKS, N_CLASSES, class_name
from facecade.recipe import kind_of
from facecade.records import fit_command, read_fit_record

AGE_STAGES = tuple(f"age-{gender}" for gender in GENDERS)


_AGES = [("years",), ("years", *(f"log_odds_{edge:.0f}" for edge in BAND_EDGES)), BANDS]

KIND_COLUMNS: dict[str, list[tuple[str, ...]]] = {
    "mask": [MASKS],
    "gender": [GENDERS],
    **{stage: _AGES for stage in AGE_STAGES},
    "gender-age": [tuple(f"{gender} {band}" for gender in GENDERS for band in BANDS)],
    "flat": [tuple(class_name(label) for label in range(N_CLASSES))],
    "joint": [
        (*(f"mask.{name}" for name in MASKS), *(f"gender.{name}" for name in GENDERS), *(f"age.{name}" for name in age))
        for age in _AGES
    ],
}
"""Of each kind of stage that predicts a target: the names that its logits may have. Stages of other kinds are features only."""


@dataclass(frozen=True)
class FoldOutput:
    """The outputs of one fold's model: for its held-out rows, and for the anchors that all folds share.

    rows: int64 (n,), rows of the sample table, with embedding (n, D) and logits (n, C), float32;
    anchors: int64 (A,) with anchor_embedding (A, D).
    """

    rows: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    anchors: np.ndarray
    anchor_embedding: np.ndarray


def read_fold(folder: Path) -> FoldOutput:
    """The outputs that a fit saved in its folder; raises FacecadeError where they are damaged."""
    record = read_fit_record(folder)
    layout = {
        "rows": "i8 rows",
        "embedding": "f4 rows width",
        "logits": f"f4 rows {len(record.columns)}",
        "anchors": "i8 anchors",
        "anchor_embedding": "f4 anchors width",
    }
    return FoldOutput(**read_arrays(folder / "outputs.npz", record.outputs, layout, fit_command(folder)))


@dataclass(frozen=True)
class StageOutputs:
    """The outputs of all stages for N rows: logits (N, C) by stage, their column names, embeddings (N, d)."""

    logits: dict[str, np.ndarray]
    columns: dict[str, tuple[str, ...]]
    embedding: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.logits.values())))

    def take(self, rows: np.ndarray) -> StageOutputs:
        """The outputs of some rows."""
        return StageOutputs(
            {stage: values[rows] for stage, values in self.logits.items()},
            self.columns,
            {stage: values[rows] for stage, values in self.embedding.items()},
        )

    def with_rows(self, rows: np.ndarray, others: StageOutputs) -> StageOutputs:
        """A copy in which some rows are replaced by `others`."""

        def replace(values: np.ndarray, new: np.ndarray) -> np.ndarray:
            values = values.copy()
            values[rows] = new
            return values

        return StageOutputs(
            {stage: replace(values, others.logits[stage]) for stage, values in self.logits.items()},
            self.columns,
            {stage: replace(values, others.embedding[stage]) for stage, values in self.embedding.items()},
        )

    def select(self, stages: Sequence[str]) -> StageOutputs:
        """The outputs of some of the stages."""
        logits, embedding = (
            {name: values[name] for name in stages if name in values} for values in (self.logits, self.embedding)
        )
        return StageOutputs(logits, {name: self.columns[name] for name in stages}, embedding)

    def without_embedding(self) -> StageOutputs:
        """The logits alone."""
        return StageOutputs(self.logits, self.columns, {})

    def for_target(self, target: str) -> np.ndarray:
        """All stages' outputs for `mask`, `gender`, `age-male` or `age-female`, (N, C): logits of the stages that
        predict it alone, and log-probabilities where it is one of several parts of a stage's classes."""
        return np.column_stack([values for values in self._by_stage(target).values() if values.size]).astype(float)

    def stages_for_target(self, target: str) -> list[str]:
        """The stage of each column of `for_target`."""
        return [stage for stage, values in self._by_stage(target).items() for _ in range(values.shape[1])]

    def _by_stage(self, target: str) -> dict[str, np.ndarray]:
        return {stage: _logits_of(stage, values, self.columns[stage], target) for stage, values in self.logits.items()}

    def kind_logits(self, kind: str) -> np.ndarray | None:
        """Logits (N, C) of the stages of a kind, averaged where there are several; None without one."""
        logits = [values for stage, values in self.logits.items() if kind_of(stage) == kind]
        return np.mean(logits, axis=0, dtype=float) if logits else None

    def kind_columns(self, kind: str) -> tuple[str, ...]:
        """Names of a kind's logits; empty without such a stage."""
        return next((names for stage, names in self.columns.items() if kind_of(stage) == kind), ())

    def logits_for(self, kind: str, prefix: str) -> np.ndarray | None:
        """A kind's logits, or else the joint stages' columns that begin with `prefix.`; (N, C), or None."""
        own, joint = self.kind_logits(kind), self.kind_logits("joint")
        if own is not None or joint is None:
            return own
        return joint[
            :, [column for column, name in enumerate(self.kind_columns("joint")) if name.startswith(f"{prefix}.")]
        ]

    def mask_probability(self) -> np.ndarray:
        """Probability (N, 3) of the mask states."""
        logits = self.logits_for("mask", "mask")
        return self.cell_probability("flat").sum((2, 3)) if logits is None else softmax(logits, axis=1)

    def gender_probability(self) -> np.ndarray:
        """Probability (N, 2) of male and female."""
        logits = self.logits_for("gender", "gender")
        if logits is not None:
            return softmax(logits, axis=1)
        return self.cell_probability("gender-age" if self.kind_columns("gender-age") else "flat").sum((1, 3))

    def cell_probability(self, kind: str) -> np.ndarray:
        """Probability (N, masks, genders, bands) of `flat` or `gender-age` stages; of the latter, masks is 1."""
        logits = self.kind_logits(kind)
        assert logits is not None
        return _cell_probability(kind, logits)

    def years(self) -> np.ndarray | None:
        """Predicted age (N, 2) in years, if male and if female; None where no stage predicts years."""
        own, shared = self._own_years(), self._shared_years()
        if own is not None:
            return own
        return np.mean(shared, axis=0) if shared else None

    def _own_years(self) -> np.ndarray | None:
        """Years (N, 2) of the age stages, each for its gender; None where one is missing."""
        male, female = (self.kind_logits(stage) for stage in AGE_STAGES)
        return None if male is None or female is None else np.column_stack([male[:, 0], female[:, 0]])

    def _shared_years(self) -> list[np.ndarray]:
        """Years (N, 2) of each stage that predicts one age for both genders."""
        return [
            np.repeat(values[:, [self.columns[stage].index("age.years")]], 2, axis=1).astype(float)
            for stage, values in self.logits.items()
            if "age.years" in self.columns[stage]
        ]

    def band_probability(self) -> np.ndarray | None:
        """Probability (N, 2, 3) of the age bands, if male and if female, where stages give it without cuts; or None."""
        by_gender = []
        for stage in AGE_STAGES:
            names = self.kind_columns(stage) or tuple(
                name.removeprefix("age.") for name in self.kind_columns("joint") if name.startswith("age.")
            )
            values = self.logits_for(stage, "age")
            odds = [column for column, name in enumerate(names) if name.startswith("log_odds_")]
            if values is None or not (odds or names == BANDS):
                return None
            by_gender.append(bands_from_odds(values[:, odds]) if odds else softmax(values, axis=1))
        return np.stack(by_gender, axis=1)

    def age_by_gender(self) -> np.ndarray:
        """Predicted age (N, 2), if male and if female: the mean over all stages that predict years; NaN where none
        does."""
        estimates = [values for values in [self._own_years(), *self._shared_years()] if values is not None]
        return np.mean(estimates, axis=0) if estimates else np.full((len(self), 2), np.nan)

    def age(self) -> np.ndarray:
        """Predicted age (N,): the two of `age_by_gender`, weighted by the gender probabilities."""
        return (self.age_by_gender() * self.gender_probability()).sum(1)


def concatenate(parts: Sequence[StageOutputs]) -> StageOutputs:
    """Concatenate the outputs of several sets of rows."""
    return _combine(parts, np.concatenate)


def average_folds(folds: Sequence[StageOutputs]) -> StageOutputs:
    """Average the outputs of several folds' models for the same rows."""
    return _combine(folds, lambda values: np.stack(values).mean(0, dtype=np.float64).astype(np.float32))


def _combine(parts: Sequence[StageOutputs], combine: Callable[[Sequence[np.ndarray]], np.ndarray]) -> StageOutputs:
    first = parts[0]
    return StageOutputs(
        {stage: combine([part.logits[stage] for part in parts]) for stage in first.logits},
        first.columns,
        {stage: combine([part.embedding[stage] for part in parts]) for stage in first.embedding},
    )


def _logits_of(stage: str, logits: np.ndarray, names: tuple[str, ...], target: str) -> np.ndarray:
    """One stage's outputs for a target, (N, C); C = 0 where it does not predict it."""
    kind = kind_of(stage)
    if kind == target:
        return logits
    if kind in ("flat", "gender-age"):
        p = _cell_probability(kind, logits)
        if target in AGE_STAGES:
            return np.log(p[:, :, AGE_STAGES.index(target)].sum(1) + 1e-12)
        if target == "mask" and kind != "flat":
            return logits[:, :0]
        return np.log(p.sum({"mask": (2, 3), "gender": (1, 3)}[target]) + 1e-12)
    prefix = "age." if target in AGE_STAGES else f"{target}."
    return logits[:, [column for column, name in enumerate(names) if name.startswith(prefix)]]


def _cell_probability(kind: str, logits: np.ndarray) -> np.ndarray:
    """Probability (N, masks, genders, bands) from the classes of `flat`, or of `gender-age` with masks = 1."""
    masks = len(MASKS) if kind == "flat" else 1
    return softmax(logits.astype(float), axis=1).reshape(len(logits), masks, len(GENDERS), len(BANDS))


def bands_from_odds(log_odds: np.ndarray) -> np.ndarray:
    """Probabilities (N, 3) of the bands from the log-odds (N, 2) of reaching each edge."""
    reached = expit(log_odds)
    upper = np.minimum(reached[:, 0], reached[:, 1])  # whoever has reached 60 has reached 30
    return np.column_stack([1 - reached[:, 0], reached[:, 0] - upper, upper])


def missing_targets(stages: Iterable[str]) -> list[str]:
    """Those of `mask`, `gender` and `age` that no stage of a recipe predicts."""
    kinds = {kind_of(stage) for stage in stages}
    if kinds & {"flat", "joint"}:
        return []
    gender = {"gender", "gender-age"} & kinds
    age = "gender-age" in kinds or set(AGE_STAGES) <= kinds
    return [name for name, predicted in (("mask", "mask" in kinds), ("gender", gender), ("age", age)) if not predicted]


def require_columns(columns: Mapping[str, tuple[str, ...]], hint: str) -> None:
    """Raises FacecadeError for columns that no stages of their kinds have, or that do not predict every target.

    Args:
        columns: names of each stage's logits.
    """
    missing = missing_targets(columns)
    if missing:
        raise FacecadeError(f"no stage predicts {' and '.join(missing)}", hint)
    of_kind: dict[str, tuple[str, ...]] = {}
    for stage, names in columns.items():
        kind = kind_of(stage)
        known = KIND_COLUMNS.get(kind, [names])
        if names not in known or names != of_kind.setdefault(kind, names):
            raise FacecadeError(f"{stage} has other columns than a {kind} stage has", hint)


def out_of_fold(
    outputs: Mapping[str, list[FoldOutput]],
    columns: Mapping[str, tuple[str, ...]],
    rows: int,
    alignments: Mapping[str, Alignment],
) -> StageOutputs:
    """The outputs for every row by the model that held out its person.

    Rows start as NaN, not 0, so that a row that no fold predicted is noticed.

    Raises:
        FacecadeError: a row without an out-of-fold prediction.
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
                f"stage {stage} has no out-of-fold prediction for {missing} rows", command(f"fit-stage {stage}")
            )
    return StageOutputs(logits, dict(columns), embedding)
