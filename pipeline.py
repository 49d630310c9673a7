"""The three steps of a run, in order: fit_stage, fit_meta, infer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from facecade.base.arrays import write_arrays
from facecade.base.artifact import versions
from facecade.base.choices import EnsembleKind, FaceChoice
from facecade.base.lease import see_latest
from facecade.base.lock import require_free
from facecade.base.machine import Machine
from facecade.base.progress import Bar, note
from facecade.combiner import selection
from facecade.faces.coverage import absent_classes
from facecade.faces.source import read_source
from facecade.faces.table import classes
from facecade.faces.words import NO_DETECTOR
from facecade.inference.loading import load_cascade, open_fitted
from facecade.records import CombinerRecord, CombinerSummary, FitRecord, read_fit_record
from facecade.report.tracking import TrackedRun, Tracker, with_intervals
from facecade.runs.fits import (
    fit_alignments,
    make_fit,
    out_of_fold_outputs,
    plan,
    require_fits,
    require_labelled_folds,
    run_data,
)
from facecade.runs.fitting import FitReporter, note_states, raise_failures, require_labels, require_years
from facecade.runs.locks import held_to_fit
from facecade.runs.run import Run
from facecade.training.ranks import ALONE, Ranks


def fit_stage(
    run: Run,
    stages: Sequence[str],
    folds: Sequence[int],
    machine: Machine,
    resume: bool,
    tracker: Tracker | None = None,
    ranks: Ranks = ALONE,
) -> list[FitRecord]:
    """Train stages: each fold on the people that it does not hold out.

    Args:
        folds: numbers of the fits, as `Recipe.fits` counts them.
        resume: keep current fits, and continue from checkpoints.
        tracker: also gets each finished fit.
        ranks: processes that train each fit together, of which this one is the main one.

    Returns:
        The record of every requested fit (stages/fit.py), by stage.

    Raises:
        FacecadeError: a stage has nothing to learn; another process fits some of them; or some fits failed, with the reason of
            each, and the others were still run.
    """
    from facecade.stages.executors import make_executor
    from facecade.stages.jobs import fit_all

    require_years(run, stages)
    requested = [make_fit(run, stage, fold) for stage in run.recipe.stages if stage in stages for fold in folds]
    for stage, fold in {need for fit in requested for need in fit.needs}:  # another machine may just have fitted it
        see_latest(run.fold_folder(stage, fold))
    todo = [make_fit(run, *key) for key in plan(run, stages, folds, resume)]
    require_labels(run, todo)
    note_states(run, requested, todo, machine, resume)
    with held_to_fit(run, [] if machine.elsewhere else [fit.folder for fit in todo]):
        data = run_data(run, machine.workers, machine.stored_crops)
        with make_executor(machine, data, run.folder, len(todo), ranks) if todo else nullcontext() as executor:
            outcomes = fit_all(todo, run.table, executor, resume, FitReporter(run, tracker)) if executor else []
    raise_failures(todo, outcomes)
    return [read_fit_record(fit.folder) for fit in requested]


def fit_meta(run: Run, tracker: Tracker | None = None) -> CombinerRecord:
    """Stack the stages: align their folds, compute the nested score of every combining method, keep the best.

    Args:
        tracker: also gets the scores.

    Returns:
        The record that `combiner/meta.json` holds.

    Raises:
        FacecadeError: a fit is missing or stale, and the hint is the command that fits it; a fold has no image with all labels;
            or another process fits the combiner.
    """
    started = time.monotonic()
    require_fits(run)
    rows = require_labelled_folds(run)
    recipe, table, folder = run.recipe, run.table.iloc[rows], run.combiner
    label, fold, person = classes(table), table["fold"].to_numpy(), table["person"].to_numpy()
    for line in absent_classes(label):
        note(line)
    with held_to_fit(run, [folder]):
        note("aligning the folds' embeddings")
        alignments = fit_alignments(run)
        aligned = out_of_fold_outputs(run, alignments).take(rows)
        raw = out_of_fold_outputs(run, {stage: each.unrotated() for stage, each in alignments.items()}).take(rows)
        with Bar("nested scores", selection.fits_to_compare(aligned, recipe.folds), "fits") as bar:
            result = selection.compare(aligned, raw, label, fold, recipe.combiner, recipe.seed, bar.advance)
        summary = CombinerSummary(
            **result.scores(person, table["age"].to_numpy()),
            fits=run.fits_digest,
            folds_hash=run.folds_hash,
            extra_data=[each.record.text for each in run.extra_data.values()],
            seed=recipe.seed,
            recipe=recipe.combiner,
            seconds=round(time.monotonic() - started, 1),
            versions=versions(),
        )
        files = {}
        for stage, alignment in alignments.items():
            name, arrays = f"alignment-{stage}.npz", {"offset": alignment.offset, "matrix": alignment.matrix}
            files[name] = write_arrays(folder / name, arrays)
        record = result.save(folder, summary, files, person)
    if tracker:
        scores = with_intervals(record.nested_choice)
        scores |= {f"nested macro-F1 of {name}": each["macro-F1"]["value"] for name, each in record.nested.items()}
        tags = {"run": str(run.folder), "method": record.method}
        tracker.log_run(TrackedRun("combiner", record.recipe.model_dump(), scores, tags))
    return record


def infer(
    folder: Path,
    data: Path,
    output: Path,
    machine: Machine,
    ensemble: EnsembleKind | None = None,
    allow_missing: bool = False,
    faces: FaceChoice = "largest",
    overwrite: bool = False,
    abstain: float | None = None,
) -> dict[str, Any]:
    """Predict every image of `data`, in order; write predictions.csv, and submission.csv for an info.csv (inference/cascade.py).

    Args:
        folder: of a run, or of an export, which needs no torch.
        ensemble: overrides the recipe's ensemble.
        allow_missing: predict also where more than a few images do not exist.
        faces: `all`: a row for each face.
        overwrite: also replace predictions by another run, or of other data.
        abstain: share of wrong answers above which less confident predictions are `unsure`.

    Returns:
        The summary that `infer --json` prints.

    Raises:
        FacecadeError: no image to predict, or too many that do not exist; a run that is not fitted; another process writes to
            `output`, or it holds other predictions.
    """
    fitted = open_fitted(folder, machine)
    source = read_source(data)
    require_free(output)
    cascade = load_cascade(fitted, machine, len(source.table), ensemble)
    if not cascade.detects:
        note(NO_DETECTOR)
    return cascade.infer(source, output, machine.workers, None, allow_missing, faces, overwrite, abstain)
