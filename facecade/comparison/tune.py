"""Search a stage's settings with Optuna, scored on held-out people."""

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
from pydantic import ValidationError

from facecade import pipeline
from facecade.base.artifact import digest, write_json, write_text
from facecade.base.errors import FacecadeError, excerpt, problems, unknown_name
from facecade.base.machine import Machine
from facecade.base.progress import note
from facecade.base.seeding import derive
from facecade.recipe import StageRecipe
from facecade.recipe_file import MAX_PROBLEMS, override, parse, read_toml, require_folds, validation_messages
from facecade.report.tracking import Tracker
from facecade.runs.begin import DataOptions, begin_run
from facecade.runs.locks import held_to_begin
from facecade.runs.run import Run
from facecade.stages import make_stage
from facecade.stages.check import check_recipe


@dataclass(frozen=True)
class Search:
    """A search. space: key of the stage's recipe → `{low, high, log}` or `{choices}`. folds: fitted one after another in each
    trial, so that a bad trial is pruned early. measure: which of the stage's scores; None = its last."""

    stage: str
    measure: str | None
    space: Mapping[str, Mapping[str, Any]]
    trials: int
    folds: Sequence[int]


def read_space(path: Path) -> dict[str, dict[str, Any]]:
    """A search space from TOML.

    Raises:
        FacecadeError: no key, a key that stages do not have, an invalid range, or a value that the key does not take.
    """
    space = read_toml(path, "space")
    if not space:
        raise FacecadeError(f"{path} holds no keys", "write for example lr = { low = 1e-4, high = 3e-3, log = true }")
    for key, choice in space.items():
        if key not in StageRecipe.model_fields:
            raise unknown_name("key of a stage", key, StageRecipe.model_fields)
        if not isinstance(choice, Mapping) or not ("choices" in choice or {"low", "high"} <= set(choice)):
            raise FacecadeError(
                f"{path}: {key} has no range", "write { low = …, high = …, log = true } or { choices = […] }"
            )
        if extra := choice.keys() - ({"choices"} if "choices" in choice else {"low", "high", "log"}):
            raise FacecadeError(f"{path}: {key} has '{excerpt(min(extra))}' in its range", "remove it")
        if "choices" in choice:
            if not isinstance(choice["choices"], list) or not choice["choices"]:
                raise FacecadeError(f"{path}: the choices of {key} are no list", "write { choices = […] }")
            _require_values(path, key, choice["choices"])
            continue
        low, high, log = choice["low"], choice["high"], choice.get("log", False)
        if not all(type(end) in (int, float) for end in (low, high)) or low > high or (log and low <= 0):
            rule = "low above 0 and not above high" if log else "low not above high"
            raise FacecadeError(
                f"{path}: {key} has low = {excerpt(low)} and high = {excerpt(high)}", f"write numbers, with {rule}"
            )
        _require_values(path, key, [low, high])
    return space


def _require_values(path: Path, key: str, values: Sequence[Any]) -> None:
    """Raises FacecadeError if a stage's key does not take one of these values."""
    for value in values:
        try:
            StageRecipe.model_validate({"backbone": "any", key: value})
        except ValidationError as error:
            raise problems(path, validation_messages(error, lambda _: StageRecipe), max_lines=MAX_PROBLEMS) from None


def tune(
    data: Path,
    options: DataOptions,
    tables: Mapping[str, Any],
    root: Path,
    search: Search,
    machine: Machine,
    tracker: Tracker | None = None,
) -> dict[str, Any]:
    """Search; if the study exists, continue it until it has `trials` trials.

    Args:
        tracker: also gets each fit.

    Returns:
        `best` (score, settings, trial), `importance` of each key, `trials`; also written to `tuning.json`, and the best
        trial as a recipe to `best.toml`. The best score is slightly optimistic: the trial was selected on the people that
        it is scored on.

    Raises:
        FacecadeError: a measure or fold that does not exist; no trial was completed.
    """
    recipe = parse(tables)
    settings = recipe.stages[search.stage]
    measures = make_stage(search.stage, settings.loss, settings.auxiliary).measures
    measure = search.measure or measures[-1]
    if measure not in measures:
        raise unknown_name(f"measure of {search.stage}", measure, measures)
    require_folds(search.folds, recipe.folds)
    check_recipe(recipe, [search.stage])
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would print the traceback of a failed trial
    with held_to_begin(root / "data"):
        base_run = begin_run(root / "data", data, tables, options, machine.workers, shared_cache=True)
    starts = _start_stages(base_run, search.stage)
    if starts:
        pipeline.fit_stage(base_run, starts, search.folds, machine, resume=True, tracker=tracker)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(root / "study.log"))),
        # Scores of trials with other data, settings, folds or spaces are not comparable.
        study_name=f"{search.stage} {measure} {digest([base_run.signature(search.stage), search.folds, search.space])}",
        direction="minimize" if measure.endswith("mae") else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )
    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)  # a failed one is tried again
    remaining = search.trials - len(study.get_trials(states=done))
    if remaining > 0:
        # A continued study must not repeat its first draws.
        study.sampler = optuna.samplers.TPESampler(seed=derive(recipe.seed, "tune", len(study.trials)) % 2**32)
        study.optimize(
            lambda trial: _score(trial, base_run, root, search, measure, machine, tracker),
            n_trials=remaining,
            catch=(FacecadeError,),
        )
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        raise FacecadeError("no trial was completed", "the messages above say why they failed")
    result = {
        "stage": search.stage,
        "measure": measure,
        "folds": list(search.folds),
        "direction": study.direction.name.lower(),
        "best": {"trial": study.best_trial.number, "score": study.best_value, "settings": study.best_params},
        "importance": optuna.importance.get_param_importances(study) if len(complete) > 1 else {},
        "trials": [
            {"trial": each.number, "state": each.state.name.lower(), "score": each.value, "settings": each.params}
            for each in study.trials
        ],
    }
    write_json(root / "tuning.json", result)
    best = override(tables, _settings(search.stage, study.best_params), [])
    write_text(root / "best.toml", tomli_w.dumps(best))
    return result


def _score(
    trial: optuna.Trial,
    base_run: Run,
    root: Path,
    search: Search,
    measure: str,
    machine: Machine,
    tracker: Tracker | None,
) -> float:
    """Fit the trial's settings fold by fold; returns the mean score on held-out people.

    Args:
        base_run: the run before the search; all trials share its data, folds, other settings and start stages.
    """
    chosen = {key: _suggest(trial, key, choice) for key, choice in search.space.items()}
    text = ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items()
    )
    note(f"--- trial {trial.number}: {text}")
    folder = root / f"trial{trial.number:04d}"
    run = replace(base_run, folder=folder, tables=override(base_run.tables, _settings(search.stage, chosen), []))
    run.save()
    scores: list[float] = []
    for step, fold in enumerate(search.folds):
        for start in _start_stages(base_run, search.stage):
            shutil.copytree(base_run.fold_folder(start, fold), run.fold_folder(start, fold), dirs_exist_ok=True)
        try:
            record = pipeline.fit_stage(run, [search.stage], [fold], machine, resume=True, tracker=tracker)[0]
        except FacecadeError as error:
            note(f"trial {trial.number} failed: {error}")
            raise
        if measure not in record.score:
            raise FacecadeError(f"fold {fold} holds nobody out whose {measure} is known", "give other folds: --fold")
        scores.append(record.score[measure])
        for file in folder.glob("stages/*/*/*.safetensors"):
            file.unlink()  # only the score of a trial is needed
        trial.report(float(np.mean(scores)), step)
        if step + 1 < len(search.folds) and trial.should_prune():
            note(f"trial {trial.number}: pruned after {step + 1} fold(s), {measure} {scores[-1]:.4f}")
            raise optuna.TrialPruned
    return float(np.mean(scores))


def _start_stages(run: Run, stage: str) -> list[str]:
    """The stages that a stage starts from, the nearest first; all trials share them, so they are fitted once."""
    start = run.recipe.stages[stage].start_stage
    return [start, *_start_stages(run, start)] if start else []


def _suggest(trial: optuna.Trial, key: str, choice: Mapping[str, Any]) -> Any:
    if "choices" in choice:
        return trial.suggest_categorical(key, choice["choices"])
    low, high, log = choice["low"], choice["high"], choice.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


def _settings(stage: str, chosen: Mapping[str, Any]) -> list[str]:
    """Chosen values in the form of `--set`."""
    return [f"stages.{stage}.{key}={json.dumps(value)}" for key, value in chosen.items()]
