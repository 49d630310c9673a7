"""Trials that chose the recipes, on one fold of the training people: `python benchmarks/trials.py RECIPE NOTE`.

Each trial fits some stages of a recipe without the people of one fold, predicts these with the soft vote, cross-fitted
among them, and adds a line to trials.jsonl. TRIALS.md is written from all lines. eval is never used.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.steps import commit, machine
from facecade.base.artifact import write_text
from facecade.base.machine import Machine
from facecade.combiner.estimators import SoftVote
from facecade.combiner.stage_outputs import StageOutputs, read_fold
from facecade.faces.labels import MASKS, decode
from facecade.faces.table import classes
from facecade.pipeline import fit_stage
from facecade.recipe import kind_of
from facecade.recipe_file import override, parse, read_toml
from facecade.records import read_fit_record
from facecade.report.metrics import confusion, macro_f1
from facecade.runs.begin import begin_run
from facecade.runs.run import Run, open_run

HERE = Path(__file__).parent
VOTE_FOLDS = 5
"""Folds of the held-out people in which the vote is cross-fitted."""


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, exists=True))
@click.argument("note")
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/faces/train"))
@click.option("--stage", "stages", multiple=True, help="Stages to fit.  [default: all]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As in fit-stage.")
@click.option("--fold", type=int, default=0, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/trials"), show_default=True)
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Folder of an earlier trial of the same fold, whose stages are in the vote too.",
)
@click.option(
    "--fit/--no-fit", "fitting", default=True, help="--no-fit: score the trials of --beside, and train nothing."
)
@click.option("--jobs", type=int, default=1, show_default=True)
def main(
    recipe: Path,
    note: str,
    data: Path,
    stages: tuple[str, ...],
    settings: tuple[str, ...],
    fold: int,
    work: Path,
    beside: tuple[Path, ...],
    fitting: bool,
    jobs: int,
) -> None:
    """Fit the stages of RECIPE on one fold, score them, and add a line with the text NOTE."""
    if not fitting:
        runs = [open_run(folder) for folder in beside]
        names = [str(folder.relative_to(work)) for folder in beside]
        _add_line(
            {"note": note, "beside": names, "fold": fold, **_scores(runs[0], runs, fold), "training_seconds": 0.0}
        )
        return
    tables = read_toml(recipe)
    fitted_stages = list(stages) or list(tables["stages"])
    tables = override(tables, settings, fitted_stages)
    tables["stages"] = {name: tables["stages"][name] for name in fitted_stages}
    parse(tables)
    started = time.monotonic()
    run = begin_run(work / f"{time.time_ns() // 1_000_000}", data, tables, shared_cache=True)
    faces_seconds = time.monotonic() - started
    records = fit_stage(run, fitted_stages, [fold], Machine(device="cpu", jobs=jobs), resume=True)
    line: dict[str, Any] = {
        "note": note,
        "recipe": recipe.name,
        "settings": list(settings),
        "stages": {name: run.recipe.stages[name].model_dump(exclude_defaults=True) for name in fitted_stages},
        "face": run.recipe.face.model_dump(exclude_defaults=True),
        "fold": fold,
        "beside": [str(folder.relative_to(work)) for folder in beside],
        "work": str(run.folder.relative_to(work)),
        **_scores(run, [run, *map(open_run, beside)], fold),
        "by_stage": {record.stage: record.score for record in records},
        "training_seconds": round(sum(record.seconds for record in records), 1),
        "faces_seconds": round(faces_seconds, 1),
    }
    _add_line(line)


def _add_line(line: dict[str, Any]) -> None:
    """Add a trial's line, and rewrite the page."""
    line |= {"commit": commit(), "machine": machine()}
    with open(HERE / "trials.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    write_text(HERE / "TRIALS.md", page())
    click.echo(
        json.dumps(
            {
                key: line[key]
                for key in ("note", "macro_f1", "log_loss", "gender", "mae", "mae_bare", "training_seconds")
            }
        )
    )


def _scores(run: Run, runs: list[Run], fold: int) -> dict[str, float]:
    """Scores on the held-out people of a fold, of a soft vote of all runs' stages that was fitted without their
    labels."""
    logits: dict[str, np.ndarray] = {}
    columns: dict[str, tuple[str, ...]] = {}
    for number, each in enumerate(runs):
        if each.folds_hash != run.folds_hash:
            raise click.ClickException(f"{each.folder} has other folds")
        for stage in each.recipe.stages:
            folder, name = each.fold_folder(stage, fold), f"{kind_of(stage)}-{10 * number + len(logits) + 2}"
            logits[name], columns[name] = read_fold(folder).logits, read_fit_record(folder).columns
    rows = read_fold(run.fold_folder(next(iter(run.recipe.stages)), fold)).rows
    stage_outputs = StageOutputs(logits, columns, {})
    table = run.table.iloc[rows]
    label, person = classes(table), table["person"].to_numpy()
    people = np.unique(person)
    fold_of = dict(zip(people, np.random.default_rng(0).permutation(len(people)) % VOTE_FOLDS, strict=True))
    vote_fold = np.array([fold_of[one] for one in person])
    probability = np.zeros((len(label), 18))
    for number in range(VOTE_FOLDS):
        train, test = np.flatnonzero(vote_fold != number), np.flatnonzero(vote_fold == number)
        probability[test] = SoftVote.fit(stage_outputs.take(train), label[train]).probability(stage_outputs.take(test))
    prediction, years = probability.argmax(1), stage_outputs.age()
    _, gender, band = decode(label)
    _, predicted_gender, predicted_band = decode(prediction)
    error = np.abs(years - table["age"].to_numpy(float))
    bare = (table["mask"] == MASKS[2]).to_numpy()
    return {
        "macro_f1": round(float(macro_f1(confusion(label, prediction))), 4),
        "log_loss": round(float(-np.log(probability[np.arange(len(label)), label]).mean()), 4),
        "gender": round(float((gender == predicted_gender).mean()), 4),
        "band": round(float((band == predicted_band).mean()), 4),
        "mae": round(float(error.mean()), 3),
        "mae_bare": round(float(error[bare].mean()), 3),
        "gender_bare": round(float((gender == predicted_gender)[bare].mean()), 4),
    }


def page() -> str:
    """TRIALS.md from all lines."""
    lines = [json.loads(line) for line in (HERE / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [_row(number, line) for number, line in enumerate(lines, 1)]
    head = "| | trial | macro-F1 | log-loss | gender | band | MAE | gender, bare | MAE, bare | training, core-min | commit |"
    return f"""# Trials that chose the recipes

Machine: {", ".join(dict.fromkeys(line["machine"] for line in lines))}. Written by `python benchmarks/trials.py`, one line per trial, in order; their
settings are in `trials.jsonl`. A commit marked *dirty* is one whose changes were committed after the trial. A trial trains without
the people of one fold of the training data and predicts them with the soft vote, cross-fitted among them in {VOTE_FOLDS} folds. It never
uses eval. With 400 people a difference of .01 in macro-F1 is noise; log-loss is steadier.

{head}
|{" --- |" * (head.count("|") - 1)}
{chr(10).join(rows)}
"""


def _row(number: int, line: Mapping[str, Any]) -> str:
    f1, loss = (f"{line[key]:.4f}"[1:] if line[key] < 1 else f"{line[key]:.3f}" for key in ("macro_f1", "log_loss"))
    shares = [f"{line[key]:.3f}"[1:] for key in ("gender", "band", "gender_bare")]
    cells = [number, line["note"], f1, loss, *shares[:2], f"{line['mae']:.2f}", shares[2], f"{line['mae_bare']:.2f}"]
    return "| " + " | ".join(map(str, [*cells, f"{line['training_seconds'] / 60:.1f}", line["commit"]])) + " |"


if __name__ == "__main__":
    main()
