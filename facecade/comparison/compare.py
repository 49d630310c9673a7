"""Train several recipes on the same people and folds, and compare their scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from facecade import pipeline
from facecade.base.artifact import Record, valid_record, write_json, write_record
from facecade.base.errors import FacecadeError
from facecade.base.fields import Content, Digest, PathText
from facecade.base.files import file_hash
from facecade.base.machine import Machine
from facecade.base.progress import note
from facecade.comparison.budget import Budget, ScaledRecipe, scale
from facecade.comparison.repeats import with_repeats
from facecade.faces.boxes import images_of
from facecade.faces.reading import AS_WRITTEN, Reading
from facecade.faces.same_person import read_same_person
from facecade.faces.source import Source, read_source
from facecade.faces.store import Entry
from facecade.inference.ensemble import Ensemble
from facecade.inference.loading import cascade_of_run
from facecade.recipe_file import override, parse, read_toml
from facecade.records import CombinerRecord, read_combiner_record
from facecade.report.evaluate import LabeledPredictions, evaluate, match
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.nested import NestedPredictions
from facecade.report.predictions import predictions_file
from facecade.report.tracking import Tracker
from facecade.runs.begin import DataOptions, begin_run
from facecade.runs.locks import held_to_begin
from facecade.runs.run import Run, open_run
from facecade.stages.check import check_recipe

SPEED_IMAGES = 256
"""Images for timing inference."""


@dataclass(frozen=True)
class ComparisonSettings:
    """What all recipes of a comparison share. evaluation: a folder to infer, and its labels. repeats: how often each network
    is trained, each time within the budget. same_person: CSVs of ids that are one person, or that only look alike. reading: what
    words and folders of the data mean."""

    data: Path
    folds: int
    seed: int
    budget: Budget | None
    evaluation: tuple[Path, Path] | None
    repeats: int = 1
    same_person: Sequence[Path] = ()
    reading: Reading = AS_WRITTEN


class Request(Record):
    """What was predicted: of which fits, by which combiner (hash of its meta.json), for which folder."""

    fits: Digest
    combiner: Content
    evaluation: PathText


class Inferred(Record):
    """inferred.json: that a recipe's models predicted what was requested, and how fast they are."""

    made_by: ClassVar[str] = "compare"

    request: Request
    images_per_second: float


def compare(
    recipes: Sequence[Path], root: Path, settings: ComparisonSettings, machine: Machine, tracker: Tracker | None = None
) -> dict[str, Any]:
    """Train every recipe, each in its own folder below `root`; score them on the same rows.

    Recipes that fail are listed, and the others are compared. Fits that exist are kept.

    Args:
        tracker: also gets each new fit and combiner.

    Returns:
        `entries`, best first: for each recipe the scores of its stages without stacking (`as published`), with cuts where
        they predict years (`hard cascade`), and stacked (`combined`); `failed`.
    """
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    names = [path.stem for path in recipes]
    if len(set(names)) < len(names):
        raise FacecadeError("two recipes have the same file name", "rename one: results are kept by name")
    for path in recipes:  # typing errors show now, not after hours
        parse(read_toml(path), str(path))
    source = read_source(settings.data, settings.reading)
    for path in recipes:
        note(f"--- {path.stem}")
        try:
            rows += _rows(path, root / path.stem, source, settings, machine, tracker)
        except Exception as error:  # the others are still compared
            message = str(error) if isinstance(error, FacecadeError) else f"{type(error).__name__}: {error}"
            hint = getattr(error, "hint", "")
            failed[path.stem] = message + (f"; {hint}" if hint else "")
            note(f"{path.stem} failed: {message}")
    if len({row["folds_hash"] for row in rows}) > 1:
        raise FacecadeError("the runs are on different folds", f"remove {root} and compare again")
    rows.sort(key=lambda row: -row["nested"]["macro-F1"]["value"])
    for row in rows:
        row["to_best"] = _difference(row["predictions"], rows[0]["predictions"])
        row["eval_to_best"] = (
            _difference(row["eval_predictions"], rows[0]["eval_predictions"]) if row["eval_predictions"] else None
        )
    result = {
        "folds": settings.folds,
        "seed": settings.seed,
        "repeats": settings.repeats,
        "budget": settings.budget.model_dump() if settings.budget else None,
        "entries": [{key: value for key, value in row.items() if not key.endswith("predictions")} for row in rows],
        "failed": failed,
    }
    write_json(root / "comparison.json", result)
    return result


def _rows(
    path: Path, folder: Path, source: Source, settings: ComparisonSettings, machine: Machine, tracker: Tracker | None
) -> list[dict[str, Any]]:
    run, changes = _run(path, folder, source, settings, machine)
    fits = pipeline.fit_stage(
        run, list(run.recipe.stages), range(run.recipe.folds), machine, resume=True, tracker=tracker
    )
    if run.combiner_state() != "fitted":
        pipeline.fit_meta(run, tracker)
    nested = NestedPredictions.read(folder)
    combiner = nested.combiner
    inferred, evaluated = _infer(run, folder, settings, machine)
    common = {
        "recipe": path.stem,
        "changes": changes,
        "folds_hash": run.folds_hash,
        "training_seconds": round(sum(fit.seconds for fit in fits), 1),
        "parameters": sum(fit.parameters for fit in fits),
        "models": len(fits),
        "images_per_second": inferred.images_per_second,
    }
    predictions = {kind: (method, nested.methods[method]) for kind, method in _unstacked(combiner).items()}
    predictions["combined"] = combiner.method, nested.prediction
    return [
        {
            **common,
            "kind": kind,
            "method": method,
            "nested": as_json(score(nested.label, prediction, nested.person, nested.age, nested.years)),
            "predictions": LabeledPredictions(nested.label, prediction, nested.person, None, None),
            "eval": evaluate(evaluated[kind], _output_folder(folder, kind)).score if evaluated else None,
            "eval_predictions": evaluated.get(kind),
        }
        for kind, (method, prediction) in predictions.items()
    ]


def _run(
    path: Path, folder: Path, source: Source, settings: ComparisonSettings, machine: Machine
) -> tuple[Run, list[str]]:
    """The recipe's run on the comparison's folds: the existing one, if nothing changed."""
    tables = override(read_toml(path), [f"folds={settings.folds}", f"seed={settings.seed}", "ensemble=mean"], [])
    recipe = parse(tables, str(path))
    scaled = ScaledRecipe(tables, [])
    if settings.budget:
        scaled = scale(tables, recipe, settings.budget, source.table)
    scaled = replace(scaled, tables=with_repeats(scaled.tables, settings.repeats))
    if (folder / "run.json").exists():
        run = open_run(folder)
        people = read_same_person(settings.same_person, source.table["person"].tolist())
        same_data = run.root.resolve() == source.root.resolve() and list(run.same_person) == list(people.rows)
        same_labels = _labels(run.table) == _labels(people.join(source.table))
        if run.tables == scaled.tables and same_data and same_labels:
            return run, scaled.changes
    scaled_recipe = parse(scaled.tables)
    check_recipe(scaled_recipe, list(scaled_recipe.stages))
    with held_to_begin(folder):
        options = DataOptions(same_person=settings.same_person, reading=settings.reading)
        run = begin_run(folder, settings.data, scaled.tables, options, machine.workers, shared_cache=True)
    return run, scaled.changes


def _labels(table: pd.DataFrame) -> list[list[object]]:
    """The images, people and labels of a sample table."""
    return table[["path", "person", "mask", "gender", "age"]].fillna({"age": 0}).to_numpy().tolist()


def _difference(predictions: LabeledPredictions, best: LabeledPredictions) -> dict[str, float]:
    """Macro-F1 of some predictions minus that of the best ones, paired by person."""
    return paired_difference(best.label, predictions.prediction, best.prediction, best.person).json()


def _unstacked(combiner: CombinerRecord) -> dict[str, str]:
    """Kind of entry → method, for the methods that do not stack."""
    kinds = {"as published": combiner.simplest}
    if "hard cascade" in combiner.nested and combiner.simplest != "hard cascade":
        kinds["hard cascade"] = "hard cascade"
    return kinds


def _infer(
    run: Run, folder: Path, settings: ComparisonSettings, machine: Machine
) -> tuple[Inferred, dict[str, LabeledPredictions]]:
    """The models' speed, and their predictions of each kind for people who were not used for fitting or selection.

    Predictions of an earlier call with the same models are kept: a few thousand images take minutes.
    """
    record, combiner = folder / "eval/inferred.json", read_combiner_record(run.combiner)
    evaluation = str(settings.evaluation[0].resolve()) if settings.evaluation else ""
    request = Request(fits=run.fits_digest, combiner=file_hash(run.combiner / "meta.json"), evaluation=evaluation)
    kept = valid_record(record, Inferred)
    kinds: dict[str, str | None] = {**_unstacked(combiner), "combined": None}
    if kept is None or kept.request != request:
        cascade = cascade_of_run(run, replace(machine, engine="torch"))  # the same engine for every recipe
        if settings.evaluation:
            unstacked = {method: _output_folder(folder, kind) for kind, method in _unstacked(combiner).items()}
            cascade.infer(
                read_source(settings.evaluation[0]),
                _output_folder(folder, "combined"),
                machine.workers,
                unstacked,
                overwrite=True,
            )
        kept = Inferred(request=request, images_per_second=_speed(run, cascade.ensemble, machine.workers))
        write_record(record, kept)
    if not settings.evaluation:
        return kept, {}
    return kept, {kind: match(predictions_file(_output_folder(folder, kind)), settings.evaluation[1]) for kind in kinds}


def _output_folder(folder: Path, kind: str) -> Path:
    """Folder of a recipe's predictions of a kind."""
    return folder / "eval" / kind.replace(" ", "-")


def _speed(run: Run, models: Ensemble, workers: int) -> float:
    """Images per second through all models, from stored crops."""
    store = run.store()
    entries = store.fill(images_of(run.root, run.table[:SPEED_IMAGES]), workers)
    rows = np.resize([entry.row for entry in entries if isinstance(entry, Entry)], SPEED_IMAGES)
    crops = store.crops()
    chunks = [crops[part] for part in np.split(rows, range(models.batch, len(rows), models.batch))]
    list(models.predict_chunks(chunks[:1]))  # warm-up
    started = time.monotonic()
    list(models.predict_chunks(chunks))
    return round(len(rows) / (time.monotonic() - started), 1)
