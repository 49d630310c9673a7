"""The report on a fitted run: scores, errors, and gaps between groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from facecade.base.artifact import read_record, write_text
from facecade.combiner.contributions import contributions
from facecade.combiner.decision import runner_up
from facecade.combiner.methods import FittedCombiner, load
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import BANDS
from facecade.faces.quality import quality
from facecade.faces.store import FaceStore
from facecade.faces.table import labelled_rows
from facecade.pages import sections, worst
from facecade.pages.figures import write_figures
from facecade.pages.page import write_page
from facecade.report.card import card
from facecade.report.evaluate import Evaluation
from facecade.report.groups import compare_groups
from facecade.report.nested import NestedPredictions
from facecade.report.tracking import TrackedRun, with_intervals
from facecade.runs.fits import make_fit, out_of_fold_outputs
from facecade.runs.run import Run
from facecade.stages.fit import Fit
from facecade.training.tracking import read_history

CONTRIBUTION_IMAGES = 1000
"""Images over which the combiner's contributions are averaged."""

CROPS_PER_CHUNK = 1000
"""Face crops whose quality is measured at a time."""


def write_report(run: Run, output: Path, evaluation: Path | None, workers: int) -> list[Path]:
    """Write report.html, MODEL_CARD.md and figures as PNG.

    Args:
        evaluation: evaluation.json of this run's predictions, if there is one.

    Returns:
        The files' paths.

    Raises:
        FacecadeError: the run is not fitted, or its images have changed.
    """
    stage_outputs, nested, labelled = (
        out_of_fold_outputs(run),
        NestedPredictions.read(run.folder),
        labelled_rows(run.table),
    )
    stage_outputs = stage_outputs.take(labelled)
    scored = read_record(evaluation, Evaluation) if evaluation else None
    store, rows = run.faces(workers)
    rows = rows[labelled]
    compared = compare_groups(nested, _quality(store, rows), _face_found(store, rows))
    histories = {
        (stage, fold): read_history(run.fold_folder(stage, fold))
        for stage in run.recipe.stages
        for fold in range(run.recipe.folds)
    }
    combiner, _ = load(run.combiner)
    sample = np.random.default_rng(run.recipe.seed).permutation(len(rows))[:CONTRIBUTION_IMAGES]
    errors = worst.worst_errors(nested, combiner, stage_outputs)
    crops = store.crops()[rows[[error.row for error in errors]]]
    years = stage_outputs.years()
    parts = [
        sections.in_short(nested, scored),
        sections.scores(nested, scored),
        sections.groups(compared),
        sections.classes(nested),
        sections.confusions(nested),
        sections.ages(nested, years),
        sections.calibrations(nested, _stage_probabilities(stage_outputs)),
        sections.mean_contributions(_mean_contributions(combiner, stage_outputs.take(sample)), len(sample)),
        sections.abstaining(nested),
        worst.section(errors, nested, crops, worst.attention_overlays(errors, nested, crops, partial(_fits, run))),
        sections.training(nested.fits, histories),
    ]
    record, joined = nested.combiner, sum(row["same"].lower() == "yes" for row in run.same_person)
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    files = [output / "report.html", output / "MODEL_CARD.md"]
    write_page(
        files[0],
        "How well the cascade predicts",
        f"{date.today():%Y-%m-%d}: {record.images:,} images of {record.people:,} people, {run.recipe.folds} folds, {len(run.recipe.stages)} stages; selected method: {record.method}",
        parts,
        f"Seed {record.seed}, folds {record.folds_hash}, {versions}. This page shows images of the people in the data: share it only where you may share those.",
    )
    write_text(files[1], card(nested, scored, compared, run.cap, len(run.corrections), joined))
    return files + write_figures(output, nested, histories, years)


def tracked_report(run: Run, evaluation: Path | None, files: Sequence[Path]) -> TrackedRun:
    """The report for an experiment tracker: the recipe, all scores with their intervals, and the files."""
    nested = NestedPredictions.read(run.folder)
    scores = with_intervals(nested.combiner.nested_choice, "nested ")
    if evaluation:
        scores |= with_intervals(read_record(evaluation, Evaluation).score, "eval ")
    tags = {"run": str(run.folder), "method": nested.combiner.method}
    return TrackedRun("report", run.recipe.model_dump(mode="json"), scores, tags, files=files)


def _mean_contributions(combiner: FittedCombiner, stage_outputs: StageOutputs) -> dict[str, float]:
    """Mean absolute contribution of each part to the margin between the best class and the runner-up, in nats."""
    probability, prediction = combiner(stage_outputs)
    other, rows = runner_up(probability, combiner.weights), np.arange(len(prediction))
    parts = contributions(combiner, stage_outputs)
    return {name: float(np.abs(nats[rows, prediction] - nats[rows, other]).mean()) for name, nats in parts.items()}


def _fits(run: Run, fold: int) -> list[Fit]:
    return [make_fit(run, stage, fold) for stage in run.recipe.stages]


def _stage_probabilities(stage_outputs: StageOutputs) -> dict[str, np.ndarray]:
    """Mean probabilities of the stages for each axis; for the age band only where stages predict it without cuts."""
    probabilities = {"mask": stage_outputs.mask_probability(), "gender": stage_outputs.gender_probability()}
    bands = stage_outputs.band_probability()
    if bands is not None:
        by_gender = stage_outputs.gender_probability()[:, :, None] * bands
        probabilities["age band"] = by_gender.sum(1).reshape(-1, len(BANDS))
    return probabilities


def _quality(store: FaceStore, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Brightness and sharpness of each row's crop."""
    crops = store.crops()
    parts = [quality(crops[rows[start : start + CROPS_PER_CHUNK]]) for start in range(0, len(rows), CROPS_PER_CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _face_found(store: FaceStore, rows: np.ndarray) -> np.ndarray | None:
    """Whether a face was found in each row's image; None where no detector ran."""
    if store.face.detector != "mtcnn":
        return None
    return store.face_found()[rows]
