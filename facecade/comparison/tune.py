"""A search for a stage's settings, by Optuna, on the folds of training people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from facecade import pipeline
from facecade.base.artifact import digest, write_json, write_text
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.machine import Machine
from facecade.base.progress import note
from facecade.base.seeding import derive
from facecade.recipe import StageRecipe
from facecade.recipe_file import override, parse, read_toml, require_folds
from facecade.report.tracking import Tracker
from facecade.runs.begin import begin_run
from facecade.runs.run import Run
from facecade.stages import make_stage
from facecade.stages.check import check_recipe


@dataclass(frozen=True)
class Search:
    """What is searched. space: key of the stage's recipe → `{low, high, log}` or `{choices}`. folds: which are fitted
    for a trial, one after another, so that a hopeless one ends early. measure: which of the stage's scores; None = its
    last."""

    stage: str
    measure: str | None
    space: Mapping[str, Mapping[str, Any]]
    trials: int
    folds: Sequence[int]


def read_space(path: Path) -> dict[str, dict[str, Any]]:
    """A space from TOML.

    Raises:
        FacecadeError: a key that stages have not, or a range that is none.
    """
    space = read_toml(path)
    for key, choice in space.items():
        if key not in StageRecipe.model_fields:
            raise unknown_name("key of a stage", key, StageRecipe.model_fields)
        if not isinstance(choice, Mapping) or not ("choices" in choice or {"low", "high"} <= set(choice)):
            raise FacecadeError(
                f"{path}: {key} has no range", "write { low = …, high = …, log = true } or { choices = […] }"
            )
        if "choices" in choice:
            continue
        low, high, log = choice["low"], choice["high"], choice.get("log", False)
        if not all(isinstance(end, int | float) for end in (low, high)) or low > high or (log and low <= 0):
            what = "from above 0 to more" if log else "from less to more"
            raise FacecadeError(f"{path}: {key} goes from {low} to {high}", f"write numbers, {what}")
    return space


def tune(
    data: Path,
    tables: Mapping[str, Any],
    root: Path,
    search: Search,
    machine: Machine,
    tracker: Tracker | None = None,
) -> dict[str, Any]:
    """Search; called again, go on with the study that is there until it has `trials` trials.

    Args:
        tracker: where each fit is written as well.

    Returns:
        `best` (score, settings, trial), `importance` of each key, `trials`; also kept in `tuning.json`, beside the
        best trial as a recipe, `best.toml`. The best score was chosen on the people it is measured on: it is a
        little too good, and no promise.

    Raises:
        FacecadeError: a measure or fold that the stage or recipe has not; no trial that came to its end.
    """
    recipe = parse(tables)
    settings = recipe.stages[search.stage]
    measures = make_stage(search.stage, settings.loss, settings.auxiliary).measures
    measure = search.measure or measures[-1]
    if measure not in measures:
        raise unknown_name(f"measure of {search.stage}", measure, measures)
    require_folds(search.folds, recipe.folds)
    check_recipe(recipe, [search.stage])
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a trial that fails it would print the traceback
    first = begin_run(root / "data", data, tables, workers=machine.workers, cache=root / "cache")
    starts = _starts(first, search.stage)
    if starts:
        pipeline.fit_stage(first, starts, search.folds, machine, resume=True, tracker=tracker)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(root / "study.log"))),
        # Trials of other data, settings, folds or spaces have scores that do not compare.
        study_name=f"{search.stage} {measure} {digest([first.signature(search.stage), search.folds, search.space])}",
        direction="minimize" if measure.endswith("mae") else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )
    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)  # one that failed is tried again
    left = search.trials - len(study.get_trials(states=done))
    if left > 0:
        # A study that goes on must not draw again what it drew first.
        study.sampler = optuna.samplers.TPESampler(seed=derive(recipe.seed, "tune", len(study.trials)) % 2**32)
        study.optimize(
            lambda trial: _score(trial, first, root, search, measure, machine, tracker),
            n_trials=left,
            catch=(FacecadeError,),
        )
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        raise FacecadeError("no trial came to its end", "look above for why they failed")
    result = {
        "stage": search.stage,
        "measure": measure,
        "folds": list(search.folds),
        "direction": study.direction.name.lower(),
        "best": {"trial": study.best_trial.number, "score": study.best_value, "settings": study.best_params},
        "importance": optuna.importance.get_param_importances(study) if len(complete) > 1 else {},
        "trials": [
            {"trial": t.number, "state": t.state.name.lower(), "score": t.value, "settings": t.params}
            for t in study.trials
        ],
    }
    write_json(root / "tuning.json", result)
    best = override(tables, _settings(search.stage, study.best_params), [])
    write_text(root / "best.toml", tomli_w.dumps(best))
    return result


def _score(
    trial: optuna.Trial,
    first: Run,
    root: Path,
    search: Search,
    measure: str,
    machine: Machine,
    tracker: Tracker | None,
) -> float:
    """Fit the trial's settings fold by fold; the mean of their scores on held-out people.

    Args:
        first: a run with the settings that are not searched; all trials share its data, folds and starting weights.
    """
    chosen = {key: _suggest(trial, key, choice) for key, choice in search.space.items()}
    said = ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items()
    )
    note(f"--- trial {trial.number}: {said}")
    folder = root / f"trial{trial.number:04d}"
    run = replace(first, folder=folder, tables=override(first.tables, _settings(search.stage, chosen), []))
    run.save()
    scores: list[float] = []
    for step, fold in enumerate(search.folds):
        for start in _starts(first, search.stage):
            shutil.copytree(first.fold_folder(start, fold), run.fold_folder(start, fold), dirs_exist_ok=True)
        try:
            record = pipeline.fit_stage(run, [search.stage], [fold], machine, resume=True, tracker=tracker)[0]
        except FacecadeError as error:
            note(f"trial {trial.number} failed: {error}")
            raise
        scores.append(record["score"][measure])
        for large in folder.glob("stages/*/*/*.safetensors"):
            large.unlink()  # a trial is kept for its score
        trial.report(float(np.mean(scores)), step)
        if step + 1 < len(search.folds) and trial.should_prune():
            note(f"trial {trial.number}: given up after {step + 1} fold(s), {measure} {scores[-1]:.4f}")
            raise optuna.TrialPruned
    return float(np.mean(scores))


def _starts(run: Run, stage: str) -> list[str]:
    """The stages that a stage starts from, the last one first; the same for all trials, and so fitted once."""
    start = run.recipe.stages[stage].start
    return [start, *_starts(run, start)] if start else []


def _suggest(trial: optuna.Trial, key: str, choice: Mapping[str, Any]) -> Any:
    if "choices" in choice:
        return trial.suggest_categorical(key, choice["choices"])
    low, high, log = choice["low"], choice["high"], choice.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


def _settings(stage: str, chosen: Mapping[str, Any]) -> list[str]:
    """Choices as `--set` takes them."""
    return [f"stages.{stage}.{key}={json.dumps(value)}" for key, value in chosen.items()]
