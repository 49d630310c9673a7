"""Recipes trained on the same people and folds, scored side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facecade import pipeline
from facecade.base.artifact import digest, read_arrays, read_json, write_json
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.progress import note
from facecade.comparison.budget import Budget, Scaled, scale
from facecade.comparison.repeats import with_repeats
from facecade.faces.store import Entry
from facecade.faces.table import Source, read_source
from facecade.inference.ensemble import Ensemble
from facecade.inference.loading import cascade_of_run
from facecade.recipe_file import override, parse, read_toml
from facecade.report.evaluate import Scored, evaluate, match
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.tracking import Tracker
from facecade.runs.begin import begin_run
from facecade.runs.run import Run, open_run
from facecade.stages.check import check_recipe

SPEED_IMAGES = 256
"""Images that inference is timed on."""


@dataclass(frozen=True)
class ComparisonSettings:
    """What every recipe of a comparison is given alike. evaluation: a folder to infer, and its labels. repeats: how often
    each network is trained, within the budget each time."""

    data: Path
    folds: int
    seed: int
    budget: Budget | None
    evaluation: tuple[Path, Path] | None
    repeats: int = 1


def compare(
    recipes: Sequence[Path], root: Path, terms: ComparisonSettings, machine: Machine, tracker: Tracker | None = None
) -> dict[str, Any]:
    """Train every recipe, each in a folder of its own below `root`; score them on the same rows.

    A recipe that fails is named, and the others are compared. What is fitted already is kept.

    Args:
        tracker: where each new fit and combiner is written as well.

    Returns:
        `entries`, best first: for each recipe what its stages answer by themselves (`as published`), with cuts where
        they know years (`hard cascade`), and stacked (`combined`); `failed`.
    """
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    names = [path.stem for path in recipes]
    if len(set(names)) < len(names):
        raise FacecadeError("two recipes have the same file name", "rename one: results are kept by name")
    for path in recipes:  # a slip of the pen shows now, not after hours
        parse(read_toml(path), str(path))
    source = read_source(terms.data)
    for path in recipes:
        note(f"--- {path.stem}")
        try:
            rows += _rows(path, root / path.stem, source, terms, machine, tracker)
        except Exception as error:  # the others are compared all the same
            said = str(error) if isinstance(error, FacecadeError) else f"{type(error).__name__}: {error}"
            hint = getattr(error, "hint", "")
            failed[path.stem] = said + (f"; {hint}" if hint else "")
            note(f"{path.stem} failed: {said}")
    if len({row["folds_hash"] for row in rows}) > 1:
        raise FacecadeError("the runs are on different folds", f"remove {root} and compare again")
    rows.sort(key=lambda row: -row["nested"]["macro-F1"]["value"])
    for row in rows:
        row["to_best"] = _behind(row["predictions"], rows[0]["predictions"])
        row["eval_to_best"] = (
            _behind(row["eval_predictions"], rows[0]["eval_predictions"]) if row["eval_predictions"] else None
        )
    result = {
        "folds": terms.folds,
        "seed": terms.seed,
        "repeats": terms.repeats,
        "budget": terms.budget.model_dump() if terms.budget else None,
        "entries": [{key: value for key, value in row.items() if not key.endswith("predictions")} for row in rows],
        "failed": failed,
    }
    write_json(root / "comparison.json", result)
    return result


def _rows(
    path: Path, folder: Path, source: Source, terms: ComparisonSettings, machine: Machine, tracker: Tracker | None
) -> list[dict[str, Any]]:
    run, changes = _run(path, folder, source, terms, machine)
    fits = pipeline.fit_stage(
        run, list(run.recipe.stages), range(run.recipe.folds), machine, resume=True, tracker=tracker
    )
    fitted = run.combiner_state() == "fitted"
    combiner = read_json(folder / "combiner/meta.json") if fitted else pipeline.fit_meta(run, tracker)
    arrays, person = read_arrays(folder / "combiner/nested.npz"), run.table["person"].to_numpy()
    inferred, evaluated = _inferred(run, folder, terms, machine)
    common = {
        "recipe": path.stem,
        "changes": changes,
        "folds_hash": run.folds_hash,
        "training_seconds": round(sum(fit["seconds"] for fit in fits), 1),
        "parameters": sum(fit["parameters"] for fit in fits),
        "models": len(fits),
        "images_per_second": inferred["images_per_second"],
    }
    age, methods = run.table["age"].to_numpy(), list(arrays["methods"])
    predictions = {
        kind: (method, arrays["predictions"][methods.index(method)]) for kind, method in _unstacked(combiner).items()
    }
    predictions["combined"] = combiner["method"], arrays["prediction"]
    return [
        {
            **common,
            "kind": kind,
            "method": method,
            "nested": as_json(score(arrays["label"], prediction, person, age, arrays["years"])),
            "predictions": Scored(arrays["label"], prediction, person, None, None),
            "eval": evaluate(evaluated[kind], _place(folder, kind))["score"] if evaluated else None,
            "eval_predictions": evaluated.get(kind),
        }
        for kind, (method, prediction) in predictions.items()
    ]


def _run(
    path: Path, folder: Path, source: Source, terms: ComparisonSettings, machine: Machine
) -> tuple[Run, list[str]]:
    """The recipe's run on the comparison's folds: as it was left, if nothing changed."""
    tables = override(read_toml(path), [f"folds={terms.folds}", f"seed={terms.seed}", "ensemble=mean"], [])
    recipe = parse(tables, str(path))
    scaled = Scaled(tables, [])
    if terms.budget:
        scaled = scale(tables, recipe, terms.budget, source.table)
    scaled = replace(scaled, tables=with_repeats(scaled.tables, terms.repeats))
    if (folder / "run.json").exists():
        run = open_run(folder)
        if run.tables == scaled.tables and run.root.resolve() == source.root.resolve():
            return run, scaled.changes
    whole = parse(scaled.tables)
    check_recipe(whole, list(whole.stages))
    run = begin_run(folder, terms.data, scaled.tables, workers=machine.workers, cache=folder.parent / "cache")
    return run, scaled.changes


def _behind(mine: Scored, best: Scored) -> dict[str, float]:
    """Macro-F1 of some answers minus that of the best's, paired by person."""
    return paired_difference(best.label, mine.prediction, best.prediction, best.person).json()


def _unstacked(combiner: Mapping[str, Any]) -> dict[str, str]:
    """Kind of answer → way, of those that stack nothing."""
    kinds = {"as published": combiner["simplest"]}
    if "hard cascade" in combiner["nested"] and combiner["simplest"] != "hard cascade":
        kinds["hard cascade"] = "hard cascade"
    return kinds


def _inferred(
    run: Run, folder: Path, terms: ComparisonSettings, machine: Machine
) -> tuple[dict[str, Any], dict[str, Scored]]:
    """How fast the models infer, and their answers of each kind for people whom nothing was fitted or chosen on.

    What an earlier call inferred with the same models is kept: labelling a few thousand images takes minutes.
    """
    record, combiner = folder / "eval/inferred.json", read_json(folder / "combiner/meta.json")
    asked = {"fits": run.fits_digest, "combiner": digest(combiner)}
    asked["evaluation"] = str(terms.evaluation[0].resolve()) if terms.evaluation else ""
    kept = read_json(record) if record.exists() else {}
    kinds: dict[str, str | None] = {**_unstacked(combiner), "combined": None}
    if kept.get("asked") != asked:
        cascade = cascade_of_run(run, replace(machine, engine="torch"))  # the same engine for every recipe
        if terms.evaluation:
            also = {method: _place(folder, kind) for kind, method in _unstacked(combiner).items()}
            cascade.infer(read_source(terms.evaluation[0]), _place(folder, "combined"), machine.workers, also)
        kept = {"asked": asked, "images_per_second": _speed(run, cascade.ensemble, machine.workers)}
        write_json(record, kept)
    if not terms.evaluation:
        return kept, {}
    return kept, {kind: match(_place(folder, kind) / "submission.csv", terms.evaluation[1]) for kind in kinds}


def _place(folder: Path, kind: str) -> Path:
    """Where a recipe's answers of a kind lie."""
    return folder / "eval" / kind.replace(" ", "-")


def _speed(run: Run, models: Ensemble, workers: int) -> float:
    """Images a second through all models, from crops that are ready."""
    store = run.store()
    entries = store.fill([run.root / path for path in run.table["path"][:SPEED_IMAGES]], workers)
    rows = np.resize([entry.row for entry in entries if isinstance(entry, Entry)], SPEED_IMAGES)
    crops = store.crops()
    chunks = [crops[some] for some in np.split(rows, range(models.batch, len(rows), models.batch))]
    list(models.predict_chunks(chunks[:1]))  # the first call warms up
    started = time.monotonic()
    list(models.predict_chunks(chunks))
    return round(len(rows) / (time.monotonic() - started), 1)
