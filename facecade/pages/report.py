"""The report on a fitted run: where it is right, where it fails, and for whom."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from facecade import pipeline
from facecade.base.artifact import read_json, write_text
from facecade.combiner.contributions import contributions
from facecade.combiner.decision import runner_up
from facecade.combiner.features import Voices
from facecade.combiner.fit import Combination, load
from facecade.faces.labels import BANDS
from facecade.faces.quality import quality
from facecade.faces.store import FaceStore
from facecade.pages import sections, worst
from facecade.pages.page import write_page
from facecade.report.card import card
from facecade.report.evidence import Evidence
from facecade.report.groups import compare_groups
from facecade.run import Run
from facecade.stages.fit import Fit
from facecade.training.tracking import read_history

SAMPLE = 1000
"""Photographs on which it is measured what tips the combiner."""

AT_ONCE = 1000
"""Crops that are measured at once."""


def write_report(run: Run, output: Path, evaluation: Path | None, workers: int) -> list[Path]:
    """Write report.html and MODEL_CARD.md.

    Args:
        evaluation: evaluation.json of answers by this run, if there is one.

    Returns:
        The files.

    Raises:
        FacecadeError: the run is not fitted, or its photographs have changed.
    """
    voices, evidence = pipeline.held_out_voices(run), Evidence.read(run.folder)
    scored = read_json(evaluation) if evaluation else None
    store, rows = run.faces(workers)
    compared = compare_groups(evidence, _quality(store, rows), _found(store, rows))
    histories = {
        (stage, fold): read_history(run.fold_folder(stage, fold))
        for stage in run.recipe.stages
        for fold in range(run.recipe.folds)
    }
    combination, _ = load(run.folder / "combiner")
    some = np.random.default_rng(run.recipe.seed).permutation(len(rows))[:SAMPLE]
    errors = worst.worst_errors(evidence, combination, voices)
    shown = store.crops()[rows[[error.row for error in errors]]]
    parts = [
        sections.scores(evidence, scored),
        sections.groups(compared),
        sections.classes(evidence),
        sections.confusions(evidence),
        sections.ages(evidence, voices.years()),
        sections.calibrations(evidence, _stages_say(voices)),
        sections.reasons(_moved(combination, voices.take(some)), len(some)),
        sections.uncertain(evidence),
        worst.section(errors, evidence, shown, worst.looked_at(errors, evidence, shown, partial(_fits, run))),
        sections.learning(evidence.fits, histories),
    ]
    said = evidence.combiner
    made = ", ".join(f"{name} {version}" for name, version in said["versions"].items())
    files = [output / "report.html", output / "MODEL_CARD.md"]
    write_page(
        files[0],
        "How well the cascade answers",
        f"{run.folder}: {said['photographs']:,} photographs of {said['people']:,} people, {run.recipe.folds} folds, {len(run.recipe.stages)} stages; kept way: {said['way']}",
        parts,
        f"Seed {said['seed']}, folds {said['folds_hash']}, {made}. It shows photographs of the people in the data: hand it on as you may hand those on.",
    )
    write_text(files[1], card(evidence, scored, compared, run.cap, len(run.corrections)))
    return files


def _moved(combination: Combination, voices: Voices) -> dict[str, float]:
    """Nats by which each part moves the decision between the answer and the next class, on average either way."""
    probability, answer = combination(voices)
    other, every = runner_up(probability, combination.weights), np.arange(len(answer))
    parts = contributions(combination, voices)
    return {name: float(np.abs(nats[every, answer] - nats[every, other]).mean()) for name, nats in parts.items()}


def _fits(run: Run, fold: int) -> list[Fit]:
    return [pipeline.wanted_fit(run, stage, fold) for stage in run.recipe.stages]


def _stages_say(voices: Voices) -> dict[str, np.ndarray]:
    """Probabilities of each axis by the stages themselves; of the age band only where stages say it without cuts."""
    said, bands = {"mask": voices.mask(), "gender": voices.gender()}, voices.bands()
    if bands is not None:
        said["age band"] = (voices.gender()[:, :, None] * bands).sum(1).reshape(-1, len(BANDS))
    return said


def _quality(store: FaceStore, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Brightness and sharpness of each row's crop."""
    crops = store.crops()
    parts = [quality(crops[rows[start : start + AT_ONCE]]) for start in range(0, len(rows), AT_ONCE)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _found(store: FaceStore, rows: np.ndarray) -> np.ndarray | None:
    """Whether a face was found in each row's photograph; None where none was looked for."""
    if store.face.detector != "mtcnn":
        return None
    return store.found()[rows]
