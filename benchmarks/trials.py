"""Trials of settings on one fold of train's people, by which the recipes were chosen: `python benchmarks/trials.py RECIPE NOTE`.

Each fits some stages of a recipe without the people of one fold, answers for these by the soft vote, cross-fitted among them, and
adds a line to trials.jsonl; TRIALS.md is written from all lines. Nothing here ever sees eval.
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
from facecade.base.artifact import read_json, write_text
from facecade.base.machine import Machine
from facecade.combiner.estimators import SoftVote
from facecade.combiner.stage_outputs import StageOutputs, read_fold
from facecade.faces.labels import MASKS, decode
from facecade.faces.table import classes
from facecade.pipeline import fit_stage
from facecade.recipe import kind_of
from facecade.recipe_file import override, parse, read_toml
from facecade.report.metrics import confusion, macro_f1
from facecade.runs.begin import begin_run
from facecade.runs.run import Run, open_run

HERE = Path(__file__).parent
PARTS = 5
"""Parts of the held-out people among which the vote is cross-fitted."""


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, exists=True))
@click.argument("note")
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/faces/train"))
@click.option("--stage", "stages", multiple=True, help="Stages to fit.  [default: all]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As of fit-stage.")
@click.option("--fold", type=int, default=0, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/trials"), show_default=True)
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Folder of an earlier trial of the same fold, whose stages vote as well.",
)
@click.option("--fit/--no-fit", "fitting", default=True, help="--no-fit: score what --beside names, and train nothing.")
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
    if not fitting:
        runs = [open_run(folder) for folder in beside]
        names = [str(folder.relative_to(work)) for folder in beside]
        _keep({"note": note, "beside": names, "fold": fold, **_scores(runs[0], runs, fold), "training_seconds": 0.0})
        return
    tables = read_toml(recipe)
    wanted = list(stages) or list(tables["stages"])
    tables = override(tables, settings, wanted)
    tables["stages"] = {name: tables["stages"][name] for name in wanted}
    parse(tables)
    started = time.monotonic()
    run = begin_run(work / f"{time.time_ns() // 1_000_000}", data, tables, cache=work / "cache")
    found = time.monotonic() - started
    records = fit_stage(run, wanted, [fold], Machine(device="cpu", jobs=jobs), resume=True)
    line: dict[str, Any] = {
        "note": note,
        "recipe": recipe.name,
        "settings": list(settings),
        "stages": {name: run.recipe.stages[name].model_dump(exclude_defaults=True) for name in wanted},
        "face": run.recipe.face.model_dump(exclude_defaults=True),
        "fold": fold,
        "beside": [str(place.relative_to(work)) for place in beside],
        "work": str(run.folder.relative_to(work)),
        **_scores(run, [run, *map(open_run, beside)], fold),
        "by_stage": {record["stage"]: record["score"] for record in records},
        "training_seconds": round(sum(record["seconds"] for record in records), 1),
        "faces_seconds": round(found, 1),
    }
    _keep(line)


def _keep(line: dict[str, Any]) -> None:
    """Add a trial's line, and write the page anew."""
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
    """What the held-out people of a fold are answered by a vote of all runs' stages that did not see the label."""
    logits, columns = {}, {}
    for number, each in enumerate(runs):
        if each.folds_hash != run.folds_hash:
            raise click.ClickException(f"{each.folder} has other folds")
        for stage in each.recipe.stages:
            folder, name = each.fold_folder(stage, fold), f"{kind_of(stage)}-{10 * number + len(logits) + 2}"
            logits[name], columns[name] = read_fold(folder).logits, tuple(read_json(folder / "meta.json")["columns"])
    rows = read_fold(run.fold_folder(next(iter(run.recipe.stages)), fold)).rows
    stage_outputs = StageOutputs(logits, columns, {})
    table = run.table.iloc[rows]
    label, person = classes(table), table["person"].to_numpy()
    people = np.unique(person)
    part = dict(zip(people, np.random.default_rng(0).permutation(len(people)) % PARTS, strict=True))
    parts = np.array([part[one] for one in person])
    probability = np.zeros((len(label), 18))
    for each in range(PARTS):
        train, test = np.flatnonzero(parts != each), np.flatnonzero(parts == each)
        probability[test] = SoftVote.fit(stage_outputs.take(train), label[train]).probability(stage_outputs.take(test))
    answer, years = probability.argmax(1), stage_outputs.age()
    _, gender, band = decode(label)
    _, said_gender, said_band = decode(answer)
    off = np.abs(years - table["age"].to_numpy(float))
    bare = (table["mask"] == MASKS[2]).to_numpy()
    return {
        "macro_f1": round(float(macro_f1(confusion(label, answer))), 4),
        "log_loss": round(float(-np.log(probability[np.arange(len(label)), label]).mean()), 4),
        "gender": round(float((gender == said_gender).mean()), 4),
        "band": round(float((band == said_band).mean()), 4),
        "mae": round(float(off.mean()), 3),
        "mae_bare": round(float(off[bare].mean()), 3),
        "gender_bare": round(float((gender == said_gender)[bare].mean()), 4),
    }


def page() -> str:
    """TRIALS.md from all lines."""
    lines = [json.loads(line) for line in (HERE / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [_row(number, line) for number, line in enumerate(lines, 1)]
    head = "| | trial | macro-F1 | log-loss | gender | band | MAE | gender, bare | MAE, bare | training, core-min | commit |"
    return f"""# Trials by which the recipes were chosen

Machine: {", ".join(dict.fromkeys(line["machine"] for line in lines))}. Written by `python benchmarks/trials.py`, a line a trial, in their order; the
settings of each stand in `trials.jsonl`. Where a commit is marked *dirty*, the trial ran on a tree that was committed afterwards. A trial fits one fold of train's people, answers for the others by the soft vote,
cross-fitted among them in {PARTS} parts, and never sees eval. With 400 people a difference of .01 in macro-F1 is noise; log-loss is steadier.

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
