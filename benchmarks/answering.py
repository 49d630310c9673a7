"""Which networks should predict: those of all folds, averaged, or one? Measured on people that no network was trained
on; write benchmarks/ANSWERING.md.

    python benchmarks/answering.py ../shared/data/faces/train

A network trained on all people cannot be scored on any of them. So the people are split once more: for each part, a
whole run (folds, combiner, refit, soup) is fitted on the others and predicts the part with each ensemble. Every command
is one of `cli.py`; an interrupted call resumes. Nothing is chosen on `eval`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
from steps import ROOT, commit, machine, run_step

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_csv, write_json
from facecade.base.choices import EnsembleKind
from facecade.faces.source import read_source, require_no_problems
from facecade.faces.split import assign_folds
from facecade.faces.table import classes
from facecade.recipe_file import parse, read_toml
from facecade.records import read_fit_record
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.results import table
from facecade.report.text import difference, interval
from facecade.runs.run import Run, open_run

PARTS, SEED = 3, 7

ENSEMBLES: dict[EnsembleKind, str] = {
    "mean": "the outputs of all folds' networks, averaged",
    "soup": "one network: the mean of the folds' weights",
    "refit": "one network, trained again on all people",
    "first": "one network: that of fold 0",
}

MAX_LOSS = 0.01
"""Macro-F1 that a cheaper ensemble may lose against `mean` and still be the recipe's."""


def measure(part: int, recipe: Path, people: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Fit a run on the people outside a part, and predict the part with each ensemble. Steps that are done are not
    repeated."""
    kept, log, run = folder / "steps.json", folder / "steps.log", folder / "run"
    steps: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    outside, inside = people[people["part"] != part], people[people["part"] == part]
    columns = ["path", "person", "mask", "gender", "age"]
    write_csv(folder / "train.csv", outside[columns])
    write_csv(folder / "part.csv", inside.assign(mask="", gender="", age="")[columns])

    def step(name: str, *arguments: object) -> None:
        if name not in steps:
            steps[name] = run_step(f"part {part} {name}", [str(argument) for argument in arguments], log)
            write_json(kept, steps)

    begin = ["--data", folder / "train.csv", "--recipe", recipe, "--resume", "--artifacts", run]
    step("fit", "fit-stage", "all", *begin, "--set", "ensemble=refit")
    if "trained" not in steps["fit"]:  # `soup` will take the place of the networks trained on all people
        steps["fit"]["trained"] = training_seconds(open_run(run))
        write_json(kept, steps)
    step("fit-meta", "fit-meta", "--artifacts", run)
    for ensemble in ("mean", "first", "refit", "soup"):
        if ensemble == "soup":
            step("fit soup", "fit-stage", "all", "--resume", "--set", "ensemble=soup", "--artifacts", run)
            step("fit-meta soup", "fit-meta", "--artifacts", run)
        exported = folder / "export" / ensemble
        step(f"export {ensemble}", "export", exported, "--artifacts", run, "--ensemble", ensemble)
        arguments = ["--artifacts", exported, "--engine", "openvino", "--output", folder / ensemble]
        step(ensemble, "infer", folder / "part.csv", *arguments)
    return list(steps.values())


def training_seconds(run: Run) -> dict[str, float]:
    """Seconds of training on one core: of the networks of all folds, and of those trained on all people."""
    seconds = {"folds": 0.0, "all people": 0.0}
    for stage in run.recipe.stages:
        for fit in run.recipe.fits:
            record = read_fit_record(run.fold_folder(stage, fit))
            seconds["folds" if fit < run.recipe.folds else "all people"] += record.seconds
    return seconds


def page(result: dict[str, Any]) -> str:
    """benchmarks/ANSWERING.md."""
    names = ("macro-F1", "accuracy", "gender accuracy", "band accuracy", "age MAE")
    rows = [
        [
            f"`{ensemble}`",
            ENSEMBLES[ensemble],
            str(measured["networks"]),
            *(interval(measured["score"][name], 2 if name == "age MAE" else 4) for name in names),
            "" if ensemble == "mean" else difference(measured["change"]),
        ]
        for ensemble, measured in result["methods"].items()
    ]
    head = ["`ensemble`", "what it is", "networks", *names, "macro-F1 against `mean`"]
    minutes = {name: f"{seconds / 60:.1f} minutes" for name, seconds in result["seconds"].items()}
    return f"""# Which networks should predict

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `{result["command"]}`.

A network trained on all people cannot be scored on any of them. So the {result["people"]} people are split into {result["parts"]} parts, stratified
like folds. For each part a whole run of `{result["recipe"]}` (its {result["folds"]} folds, combiner, refit and soup) is fitted on the other
people and predicts the part with each ensemble. The scores are of all parts together: {result["images"]} images, each predicted by
networks and a combiner that were fitted without its person. Each run is fitted on {result["parts"] - 1}/{result["parts"]} of the people, so the scores are
lower than those of a run on all people: compare the ensembles with each other only.

{table(head, rows)}

The recipe's ensemble should be the cheapest whose macro-F1 is within {MAX_LOSS} of that of `mean`: **`{result["cheapest"]}`**. Intervals are 95 %, by
bootstrap over people; those of the last column are paired. *Networks* is how many networks run on an image; `benchmarks/INFERENCE.md` has
the speed.

Of all parts together: training the networks of all folds took {minutes["folds"]} of one core, those on all people {minutes["all people"]} more;
the soups took {minutes["soup"]}.
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/quick.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/answering"), show_default=True)
def main(data: Path, recipe: Path, artifacts: Path) -> None:
    """Measure on the people of DATA; write benchmarks/ANSWERING.md."""
    source, parsed = read_source(data), parse(read_toml(recipe))
    people = require_no_problems(source)
    people = people.assign(
        part=assign_folds(people, PARTS, SEED), path=[str((source.root / path).resolve()) for path in people["path"]]
    )
    folders = [artifacts.resolve() / f"part{part}" for part in range(PARTS)]
    steps = [step for part, folder in enumerate(folders) for step in measure(part, recipe, people, folder)]
    predictions = {
        ensemble: pd.concat(
            [pd.read_csv(folder / ensemble / "predictions.csv", dtype={"ImageID": str}) for folder in folders]
        )
        for ensemble in ENSEMBLES
    }
    order = predictions["mean"]["ImageID"]
    truth = people.set_index("path").loc[order]
    label, person, age = classes(truth), truth["person"].to_numpy(), truth["age"].to_numpy()
    measured: dict[EnsembleKind, Any] = {}
    for ensemble, predicted in predictions.items():
        assert predicted["ImageID"].equals(order)
        assert not predicted["flags"].astype(str).str.contains("trained-on").any(), "a person was trained on"
        measured[ensemble] = {
            "networks": len(parsed.stages) * len(parsed.inference_fits(ensemble)),
            "score": as_json(score(label, predicted["ans"].to_numpy(), person, age, predicted["age"].to_numpy())),
            "change": paired_difference(
                label, predicted["ans"].to_numpy(), predictions["mean"]["ans"].to_numpy(), person
            ).json(),
        }
    close = [ensemble for ensemble, each in measured.items() if each["change"]["value"] >= -MAX_LOSS]
    result = {
        "machine": machine(),
        "commit": ", ".join(sorted({step["commit"] for step in steps} | {commit()})),
        "command": " ".join(["python benchmarks/answering.py", *sys.argv[1:]]),
        "people": people["person"].nunique(),
        "images": len(order),
        "parts": PARTS,
        "folds": parsed.folds,
        "recipe": recipe,
        "methods": measured,
        "cheapest": min(close, key=lambda each: (measured[each]["networks"], list(ENSEMBLES).index(each))),
        "seconds": {
            **{
                name: sum(step["trained"][name] for step in steps if "trained" in step)
                for name in ("folds", "all people")
            },
            "soup": sum(step["seconds"] for step in steps if step["step"].endswith(" fit soup")),
        },
    }
    write_json(ROOT / "output/answering.json", result)
    target = ROOT / "benchmarks/ANSWERING.md"
    target.write_text(page(result))
    click.echo(target)


if __name__ == "__main__":
    main()
