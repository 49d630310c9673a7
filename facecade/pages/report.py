"""The report on a fitted run: where it is right, where it fails, and for whom."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from facecade.base.artifact import read_json, write_text
from facecade.combiner.contributions import contributions
from facecade.combiner.decision import runner_up
from facecade.combiner.methods import FittedCombiner, load
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import BANDS
from facecade.faces.quality import quality
from facecade.faces.store import FaceStore
from facecade.pages import sections, worst
from facecade.pages.page import write_page
from facecade.report.card import card
from facecade.report.groups import compare_groups
from facecade.report.nested import NestedPredictions
from facecade.runs.fits import make_fit, out_of_fold_outputs
from facecade.runs.run import Run
from facecade.stages.fit import Fit
from facecade.training.tracking import read_history

SAMPLE = 1000
"""Images on which it is measured what tips the combiner."""

AT_ONCE = 1000
"""Crops that are measured at once."""


def write_report(run: Run, output: Path, evaluation: Path | None, workers: int) -> list[Path]:
    """Write report.html and MODEL_CARD.md.

    Args:
        evaluation: evaluation.json of answers by this run, if there is one.

    Returns:
        The files.

    Raises:
        FacecadeError: the run is not fitted, or its images have changed.
    """
    stage_outputs, nested = out_of_fold_outputs(run), NestedPredictions.read(run.folder)
    scored = read_json(evaluation) if evaluation else None
    store, rows = run.faces(workers)
    compared = compare_groups(nested, _quality(store, rows), _found(store, rows))
    histories = {
        (stage, fold): read_history(run.fold_folder(stage, fold))
        for stage in run.recipe.stages
        for fold in range(run.recipe.folds)
    }
    combiner, _ = load(run.folder / "combiner")
    some = np.random.default_rng(run.recipe.seed).permutation(len(rows))[:SAMPLE]
    errors = worst.worst_errors(nested, combiner, stage_outputs)
    shown = store.crops()[rows[[error.row for error in errors]]]
    parts = [
        sections.scores(nested, scored),
        sections.groups(compared),
        sections.classes(nested),
        sections.confusions(nested),
        sections.ages(nested, stage_outputs.years()),
        sections.calibrations(nested, _stages_say(stage_outputs)),
        sections.reasons(_moved(combiner, stage_outputs.take(some)), len(some)),
        sections.uncertain(nested),
        worst.section(errors, nested, shown, worst.attention_overlays(errors, nested, shown, partial(_fits, run))),
        sections.learning(nested.fits, histories),
    ]
    said = nested.combiner
    made = ", ".join(f"{name} {version}" for name, version in said["versions"].items())
    files = [output / "report.html", output / "MODEL_CARD.md"]
    write_page(
        files[0],
        "How well the cascade answers",
        f"{run.folder}: {said['images']:,} images of {said['people']:,} people, {run.recipe.folds} folds, {len(run.recipe.stages)} stages; kept way: {said['method']}",
        parts,
        f"Seed {said['seed']}, folds {said['folds_hash']}, {made}. It shows images of the people in the data: hand it on as you may hand those on.",
    )
    write_text(files[1], card(nested, scored, compared, run.cap, len(run.corrections)))
    return files


def _moved(combiner: FittedCombiner, stage_outputs: StageOutputs) -> dict[str, float]:
    """Nats by which each part moves the decision between the answer and the next class, on average either way."""
    probability, prediction = combiner(stage_outputs)
    other, every = runner_up(probability, combiner.weights), np.arange(len(prediction))
    parts = contributions(combiner, stage_outputs)
    return {name: float(np.abs(nats[every, prediction] - nats[every, other]).mean()) for name, nats in parts.items()}


def _fits(run: Run, fold: int) -> list[Fit]:
    return [make_fit(run, stage, fold) for stage in run.recipe.stages]


def _stages_say(stage_outputs: StageOutputs) -> dict[str, np.ndarray]:
    """Probabilities of each axis by the stages themselves; of the age band only where stages say it without cuts."""
    said, bands = (
        {"mask": stage_outputs.mask_probability(), "gender": stage_outputs.gender_probability()},
        stage_outputs.band_probability(),
    )
    if bands is not None:
        said["age band"] = (stage_outputs.gender_probability()[:, :, None] * bands).sum(1).reshape(-1, len(BANDS))
    return said


def _quality(store: FaceStore, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Brightness and sharpness of each row's crop."""
    crops = store.crops()
    parts = [quality(crops[rows[start : start + AT_ONCE]]) for start in range(0, len(rows), AT_ONCE)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _found(store: FaceStore, rows: np.ndarray) -> np.ndarray | None:
    """Whether a face was found in each row's image; None where none was looked for."""
    if store.face.detector != "mtcnn":
        return None
    return store.found()[rows]
