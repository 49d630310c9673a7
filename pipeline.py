"""The three verbs, in the order a run takes them: fit_stage, fit_meta, infer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from base.artifact import read_arrays, read_json, versions, write_arrays, write_csv
from base.errors import FacecadeError
from base.machine import Machine
from base.progress import Bar, note
from combiner import fit as combination
from combiner.align import Alignment, fit_alignment
from combiner.features import FoldOutput, Voices, lacking, out_of_fold, read_fold
from combiner.rules import learn_cuts
from faces.decode import DecodeError
from faces.labels import GENDERS, N_CLASSES
from faces.store import Entry
from faces.table import Source, classes, read_source
from report.metrics import as_json, class_f1, paired_difference, score
from report.predictions import predictions_table
from run import Run, scores_text

if TYPE_CHECKING:
    from recipe import Recipe
    from stages.fit import Fit


def fit_stage(
    run: Run, stages: Sequence[str], folds: Sequence[int], machine: Machine, resume: bool
) -> list[dict[str, Any]]:
    """Train stages, each fold on the people outside it.

    Args:
        resume: leave current fits as they are, and go on from checkpoints.

    Returns:
        A record for every fold asked for (stages/fit.py), by stage.

    Raises:
        FacecadeError: some fits failed, named with their reasons; the others were run all the same.
    """
    from stages.fit import Material
    from stages.jobs import fit_all

    store, crop_row = run.faces(machine.workers)
    asked = {
        (stage, fold): wanted_fit(run, stage, fold) for stage in run.recipe.stages if stage in stages for fold in folds
    }
    todo = [wanted_fit(run, *key) for key in plan(run, stages, folds, resume)]
    for (stage, fold), fit in asked.items():
        if run.state(stage, fold) == "fitted":
            score = scores_text(read_json(fit.folder / "meta.json")["score"])
            again = "" if resume else "; fitting it again (--resume would keep it)"
            note(f"{stage} fold {fold}: fitted already, {score}{again}")
    for fit in todo:
        if fit.key not in asked:
            note(f"{fit.stage.name} fold {fit.fold}: fitting it first, because others start from it")

    def done(fit: Fit, outcome: dict[str, Any] | BaseException) -> None:
        name = f"{fit.stage.name} fold {fit.fold}"
        if isinstance(outcome, BaseException):
            note(f"{name}: failed: {outcome}")
        else:
            note(f"{name}: {scores_text(outcome['score'])} on held-out people, {outcome['seconds']:.0f} s")

    material = Material(run.table, store.pixels, store.shape, crop_row, run.anchors())
    outcomes = fit_all(todo, material, machine, resume, done)
    failed = [(fit, error) for fit, error in zip(todo, outcomes, strict=True) if isinstance(error, BaseException)]
    if failed:
        lines = [f"{fit.stage.name} fold {fit.fold}: {error}" for fit, error in failed]
        cause = failed[0][1]
        hint = getattr(cause, "hint", "") or "mend it, then go on with what is left: --resume"
        raise FacecadeError(f"{len(failed)} of {len(todo)} fits failed:\n  " + "\n  ".join(lines), hint) from cause
    return [read_json(fit.folder / "meta.json") for fit in asked.values()]


def check_parts(recipe: Recipe) -> None:
    """Make everything that a recipe names, so that a wrong name fails before anything is written or trained.

    Raises:
        FacecadeError: a loss, augmentation, optimizer or schedule that there is not, or that does not take its arguments.
    """
    import torch

    from stages import make_stage
    from training.augment import build
    from training.optimizers import Schedule, make_optimizer

    for name, stage in recipe.stages.items():
        make_stage(name, stage.loss, stage.auxiliary)
        Schedule(make_optimizer(torch.nn.Linear(1, 1), stage), stage, 1)
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)


def plan(run: Run, stages: Sequence[str], folds: Sequence[int], resume: bool) -> list[tuple[str, int]]:
    """Stage and fold of the fits that `fit_stage` would run, each after the one it starts from; that one too, where it
    is not fitted."""
    todo: set[tuple[str, int]] = set()
    for stage in reversed(run.recipe.stages):  # a recipe names a stage after the one it starts from
        followers = [name for name, recipe in run.recipe.stages.items() if recipe.start == stage]
        for fold in range(run.recipe.folds):
            fitted = run.state(stage, fold) == "fitted"
            asked = stage in stages and fold in folds and not (fitted and resume)
            if asked or (not fitted and any((name, fold) in todo for name in followers)):
                todo.add((stage, fold))
    keys = [(stage, fold) for stage in run.recipe.stages for fold in range(run.recipe.folds)]
    return [key for key in keys if key in todo]


def fit_meta(run: Run) -> dict[str, Any]:
    """Stack the stages: align their folds, score every way of combining nested, keep the best.

    Returns:
        The record that `combiner/meta.json` holds.

    Raises:
        FacecadeError: a stage's fold is missing, stale, or of another split; with the command that mends it.
    """
    started = time.monotonic()
    _require_fits(run)
    recipe, table = run.recipe, run.table
    outputs = {
        stage: [read_fold(run.fold_folder(stage, fold)) for fold in range(recipe.folds)] for stage in recipe.stages
    }
    columns = {stage: tuple(read_json(run.fold_folder(stage, 0) / "meta.json")["columns"]) for stage in recipe.stages}
    fold = table["fold"].to_numpy()
    note("aligning the folds' embeddings")
    aligned = {stage: _align(folds, fold, recipe.combiner.components) for stage, folds in outputs.items()}
    raw = {stage: alignment.unrotated() for stage, alignment in aligned.items()}
    voices = out_of_fold(outputs, columns, len(table), aligned)
    unaligned = out_of_fold(outputs, columns, len(table), raw)

    label, person, age = classes(table), table["person"].to_numpy(), table["age"].to_numpy()
    fitted = len({(way.rule, way.embedding) for way in combination.ways_for(voices).values()})
    with Bar("nested scores", fitted * recipe.folds, "fits") as bar:
        results, chosen = combination.compare(voices, unaligned, label, fold, recipe.combiner, recipe.seed, bar.advance)
    best = combination.best_way(results, label)
    years, cuts = voices.age(), learn_cuts(voices, label)
    simplest = next(iter(results))
    record = {
        "nested": {name: as_json(score(label, result.answer, person, age, years)) for name, result in results.items()},
        "nested_choice": as_json(score(label, chosen, person, age, years)),
        "simplest": simplest,
        "gain_over_simplest": paired_difference(label, results[best].answer, results[simplest].answer, person).json(),
        "per_class_f1": class_f1(label, chosen),
        "cuts": {} if cuts is None else {name: row.round(2) for name, row in zip(GENDERS, cuts, strict=True)},
        "photographs": len(label),
        "people": int(table["person"].nunique()),
        "prior": np.bincount(label, minlength=N_CLASSES) / len(label),
        "fits": run.fits_digest,
        "folds_hash": run.folds_hash,
        "seed": recipe.seed,
        "recipe": recipe.combiner.model_dump(),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    folder = run.folder / "combiner"
    for stage, alignment in aligned.items():
        write_arrays(folder / f"alignment-{stage}.npz", {"offset": alignment.offset, "matrix": alignment.matrix})
    write_arrays(
        folder / "nested.npz",
        {
            "label": label,
            "answer": chosen,
            "probability": results[best].probability.astype(np.float32),
            "years": years,
            "ways": np.array(list(results)),
            "answers": np.stack([result.answer for result in results.values()]),
        },
    )
    for name, place in ((simplest, folder / "simplest"), (best, folder)):
        final = combination.finish(name, results[name], voices, label, recipe.combiner, recipe.seed)
        combination.save(place, final, record)
    return read_json(folder / "meta.json")


def infer(run: Run, data: Path, output: Path, device: str, workers: int) -> dict[str, Any]:
    """Answer for every photograph of `data`, in its order; write submission.csv and predictions.csv.

    A photograph that cannot be seen is answered with the most likely class of the training people, and flagged.
    """
    started = time.monotonic()
    _require_fits(run)
    _combination_folder(run)
    summary = answer(run, hear(run, data, device, workers), output)
    return {**summary, "seconds": round(time.monotonic() - started, 1)}


@dataclass(frozen=True)
class Heard:
    """Photographs asked for, what the store knows of each, and what all stages say of those that can be seen."""

    source: Source
    entries: Sequence[Entry | DecodeError]
    voices: Voices | None


def hear(run: Run, data: Path, device: str, workers: int) -> Heard:
    """Ask every stage and fold about the photographs of `data`."""
    source = read_source(data)
    if source.labelled:
        for problem in source.problems:
            note(f"left out: {problem}")
    store = run.store()
    entries = store.fill([source.root / path for path in source.table["path"]], workers)
    rows = np.array([entry.row for entry in entries if isinstance(entry, Entry)], np.int64)
    return Heard(source, entries, listen(run, store.crops(), rows, device) if len(rows) else None)


def listen(run: Run, crops: np.ndarray, rows: np.ndarray, device: str) -> Voices:
    """What the run's models say of some crops, averaged over the folds."""
    from inference.photographs import listen as ask
    from training.device import torch_device

    fits = {stage: [wanted_fit(run, stage, fold) for fold in range(run.recipe.folds)] for stage in run.recipe.stages}
    alignments = {stage: _read_alignment(run, stage) for stage in fits}
    return ask(fits, alignments, crops, rows, torch_device(device))


def answer(run: Run, heard: Heard, output: Path, simplest: bool = False) -> dict[str, Any]:
    """Write what a run answers for photographs that were heard; by its kept way of combining, or the simplest."""
    combine, record = combination.load(_combination_folder(run, simplest))
    count = len(heard.entries)
    probability = np.tile(np.array(record["prior"], float), (count, 1))
    answers = np.full(count, int(np.argmax(record["prior"])))
    years = np.full((count, 3), np.nan)
    if heard.voices:
        seen = np.array([isinstance(entry, Entry) for entry in heard.entries])
        probability[seen], answers[seen] = combine(heard.voices)
        years[seen] = np.column_stack([heard.voices.age(), heard.voices.ages()])

    known = set(run.table["content"])
    flags = [_flag(entry, known, run.recipe.face.detector == "mtcnn") for entry in heard.entries]
    predictions = predictions_table(heard.source.image_ids, answers, probability, years, flags)
    write_csv(output / "submission.csv", predictions[["ImageID", "ans"]])
    write_csv(output / "predictions.csv", predictions)
    flagged = predictions.loc[predictions["flags"] != "", "flags"].str.split(":").str[0].value_counts()
    return {
        "photographs": count,
        "flags": {str(name): int(number) for name, number in flagged.items()},
        "submission": str(output / "submission.csv"),
        "predictions": str(output / "predictions.csv"),
    }


def wanted_fit(run: Run, stage: str, fold: int) -> Fit:
    """What the run's recipe asks of one fold of one stage."""
    from stages import make_stage
    from stages.fit import Fit

    recipe = run.recipe.stages[stage]
    start = str(run.fold_folder(recipe.start, fold) / "weights.safetensors") if recipe.start else recipe.weights
    return Fit(
        make_stage(stage, recipe.loss, recipe.auxiliary),
        fold,
        recipe,
        start,
        run.recipe.augment.get(recipe.augment, []),
        run.cap,
        run.recipe.seed,
        run.signature(stage),
        run.fold_folder(stage, fold),
    )


def _require_fits(run: Run) -> None:
    """Every fold of every stage fitted as the recipe now says, or an error with the commands that mend it."""
    unanswered = lacking(run.recipe.stages)
    if unanswered:
        raise FacecadeError(
            f"no stage of the recipe answers {' and '.join(unanswered)}",
            "add mask, gender, age-male and age-female; or joint; or flat",
        )
    wrong: list[str] = []
    mend: list[str] = []
    for stage in run.recipe.stages:
        states = {fold: run.state(stage, fold) for fold in range(run.recipe.folds)}
        bad = {fold: state for fold, state in states.items() if state != "fitted"}
        if bad:
            wrong.append(f"{stage}: " + ", ".join(f"fold {fold} {state}" for fold, state in bad.items()))
            mend.append(run.command(f"fit-stage {stage} --resume"))
    if wrong:
        raise FacecadeError("not every fold is fitted as the recipe says:\n  " + "\n  ".join(wrong), "\n  ".join(mend))


def _combination_folder(run: Run, simplest: bool = False) -> Path:
    """Where the run's combination is kept; raises FacecadeError where it is missing or stale."""
    state = run.combiner_state()
    if state != "fitted":
        raise FacecadeError(f"the combiner is {state}", run.command("fit-meta"))
    return run.folder / "combiner" / ("simplest" if simplest else "")


def _align(folds: list[FoldOutput], fold: np.ndarray, components: int) -> Alignment:
    return fit_alignment([output.anchor_embedding for output in folds], fold[folds[0].anchors], components)


def _read_alignment(run: Run, stage: str) -> Alignment:
    return Alignment(**read_arrays(run.folder / "combiner" / f"alignment-{stage}.npz"))


def _flag(entry: Entry | DecodeError, known: set[str], detects: bool) -> str:
    if isinstance(entry, DecodeError):
        return "no-file" if entry.reason == "no such file" else f"unreadable: {entry.reason}"
    flags = ["no-face"] if detects and entry.box is None else []
    return " ".join(flags + (["trained-on"] if entry.content in known else []))
