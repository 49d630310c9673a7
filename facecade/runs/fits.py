"""A run's fits: create them from its recipe, order them, require them, and read their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facecade.base.arrays import read_arrays
from facecade.base.artifact import again
from facecade.base.errors import FacecadeError
from facecade.base.progress import note
from facecade.combiner.align import Alignment, fit_alignment
from facecade.combiner.stage_outputs import (
    FoldOutput,
    StageOutputs,
    missing_targets,
    out_of_fold,
    read_fold,
    require_columns,
)
from facecade.faces.table import labelled_rows
from facecade.records import combiner_command, fit_command, read_combiner_record, read_fit_record
from facecade.runs.run import Run

if TYPE_CHECKING:
    from facecade.stages.fit import Fit, RunData


def make_fit(run: Run, stage: str, fold: int) -> Fit:
    """One fit of one stage, by the run's recipe."""
    from facecade.stages import make_stage
    from facecade.stages.fit import Fit

    recipe = run.recipe.stages[stage]
    stage_object, weights, head_rows = make_stage(stage, recipe.loss, recipe.auxiliary), recipe.weights, []
    if recipe.start_stage:
        weights = str(run.fold_folder(recipe.start_stage, fold) / "weights.safetensors")
        start = run.recipe.stages[recipe.start_stage]
        known = make_stage(recipe.start_stage, start.loss, start.auxiliary).outputs
        head_rows = [known.index(output) if output in known else -1 for output in stage_object.outputs]
    soup = fold == run.recipe.folds and run.recipe.ensemble == "soup"
    return Fit(
        stage_object,
        fold,
        run.recipe.fit_name(fold),
        recipe,
        weights,
        head_rows,
        run.recipe.augment.get(recipe.augment, []),
        run.cap,
        run.recipe.seed,
        run.signature(stage, fold),
        run.folds_hash,
        run.fold_folder(stage, fold),
        [run.fold_folder(stage, each) / "weights.safetensors" for each in range(fold)] if soup else [],
    )


def make_fits(run: Run, numbers: Sequence[int]) -> dict[str, list[Fit]]:
    """The fits of these numbers, by stage."""
    return {stage: [make_fit(run, stage, fold) for fold in numbers] for stage in run.recipe.stages}


def plan(run: Run, stages: Sequence[str], folds: Sequence[int], resume: bool) -> list[tuple[str, int]]:
    """Stage and fold of the fits that `fit_stage` would run, in order: each after those that it starts from, which are
    added if they are not fitted.

    Args:
        resume: keep current fits.
    """
    todo: set[tuple[str, int]] = set()

    def add(stage: str, fold: int) -> None:
        todo.add((stage, fold))
        for need in make_fit(run, stage, fold).needs:
            if need not in todo and run.state(*need) != "fitted":
                add(*need)

    for stage in stages:
        for fold in folds:
            if not (resume and run.state(stage, fold) == "fitted"):
                add(stage, fold)
    return [key for stage in run.recipe.stages for fold in run.recipe.fits if (key := (stage, fold)) in todo]


def run_data(run: Run, workers: int, stored: bool = False) -> RunData:
    """The training data of all fits of a run; finds faces that are not in the cache yet. stored: as of `Run.faces`."""
    from facecade.stages.fit import RunData

    store, crop_row = run.faces(workers, stored)
    extra = run.extra_rows(store, workers, stored)
    return RunData(run.table, store.pixels, store.shape, crop_row, run.anchors(), extra)


def require_fits(run: Run) -> None:
    """Raises FacecadeError where a fit is missing or stale, with the command that fits it."""
    missing = missing_targets(run.recipe.stages)
    if missing:
        raise FacecadeError(
            f"no stage of the recipe predicts {' and '.join(missing)}",
            "add mask, gender, age-male and age-female; or joint; or flat",
        )
    not_fitted: dict[str, str] = {}
    for stage in run.recipe.stages:
        states = {run.recipe.fit_name(fold): run.state(stage, fold) for fold in run.recipe.fits}
        bad = {name: state for name, state in states.items() if state != "fitted"}
        if bad:
            not_fitted[stage] = f"{stage}: " + ", ".join(f"{name} {state}" for name, state in bad.items())
    if not_fitted:
        lines = "\n  ".join(not_fitted.values())
        stages = "all" if len(not_fitted) == len(run.recipe.stages) else " ".join(not_fitted)
        raise FacecadeError(
            f"not everything is fitted as the recipe says:\n  {lines}", run.command(f"fit-stage {stages} --resume")
        )


def require_labelled_folds(run: Run) -> np.ndarray:
    """The rows that the combiner is fitted on: those with all three labels, int64 (n,).

    Raises:
        FacecadeError: a fold has none of them; each fold is scored by what was fitted on the others.
    """
    rows = labelled_rows(run.table)
    with_rows = run.table["fold"].iloc[rows].nunique()
    if with_rows < run.recipe.folds:
        raise FacecadeError(
            f"only {with_rows} of {run.recipe.folds} folds have images with all three labels, mask, gender and age",
            f"label more people, and begin again: {run.command('fit-stage all --data DATA')}",
        )
    if len(rows) < len(run.table):
        note(f"the combiner is fitted on the {len(rows)} of {len(run.table)} images that have all three labels")
    return rows


def require_fitted(run: Run) -> Path:
    """Folder of the run's combiner; raises FacecadeError where the combiner or a fit is missing or stale."""
    require_fits(run)
    state = run.combiner_state()
    if state != "fitted":
        raise FacecadeError(f"the combiner is {state}", run.command("fit-meta"))
    return run.combiner


def fit_alignments(run: Run) -> dict[str, Alignment]:
    """Rotations of every stage's folds into one basis, fitted on the anchors; by stage."""
    fold = run.table["fold"].to_numpy()

    def align(outputs: list[FoldOutput]) -> Alignment:
        embeddings = [output.anchor_embedding for output in outputs]
        return fit_alignment(embeddings, fold[outputs[0].anchors], run.recipe.combiner.components)

    return {stage: align(outputs) for stage, outputs in _fold_outputs(run).items()}


def read_alignments(run: Run) -> dict[str, Alignment]:
    """The rotations that `fit_meta` saved, by stage; raises FacecadeError where they are damaged."""
    contents, folds = read_combiner_record(run.combiner).files, len(run.recipe.fits)
    layout = {"offset": f"f4 {folds} embedding", "matrix": f"f4 {folds} embedding components"}
    alignments = {}
    for stage in run.recipe.stages:
        name = f"alignment-{stage}.npz"
        arrays = read_arrays(run.combiner / name, contents.get(name, ""), layout, combiner_command(run.combiner))
        alignments[stage] = Alignment(**arrays)
    return alignments


def out_of_fold_outputs(run: Run, alignments: Mapping[str, Alignment] | None = None) -> StageOutputs:
    """Out-of-fold outputs of all stages for every training image: by models that did not train on its person.

    Args:
        alignments: of each stage's folds; by default those that `fit_meta` saved.

    Raises:
        FacecadeError: the run is not fitted.
    """
    if alignments is None:
        require_fitted(run)
        alignments = read_alignments(run)
    return out_of_fold(_fold_outputs(run), _columns(run), len(run.table), alignments)


def _fold_outputs(run: Run) -> dict[str, list[FoldOutput]]:
    """Saved outputs of every fit, by stage; raises FacecadeError where they are damaged, or of other rows."""
    fold, anchors = run.table["fold"].to_numpy(), run.anchors()

    def read(stage: str, number: int) -> FoldOutput:
        folder = run.fold_folder(stage, number)
        output = read_fold(folder)
        if not (
            np.array_equal(output.rows, np.flatnonzero(fold == number)) and np.array_equal(output.anchors, anchors)
        ):
            raise FacecadeError(f"{folder} has outputs of other rows than its fold's", again(fit_command(folder)))
        return output

    return {stage: [read(stage, number) for number in run.recipe.fits] for stage in run.recipe.stages}


def _columns(run: Run) -> dict[str, tuple[str, ...]]:
    """Names of each stage's logits; raises FacecadeError for those that no such stage has."""
    columns = {stage: read_fit_record(run.fold_folder(stage, 0)).columns for stage in run.recipe.stages}
    require_columns(columns, run.command("fit-stage all"))
    return columns
