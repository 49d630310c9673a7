"""Which networks should answer: all folds', averaged, or one? Measured on people whom no network knew; write
benchmarks/ANSWERING.md.

    python benchmarks/answering.py ../shared/data/faces/train

A network of everybody cannot be scored on anybody that it learned from. So the people are split once more: for each part,
a whole run (folds, combiner, refit, soup) learns from the others and answers for the part by each way. Every command
is one of `cli.py`; a call that was cut goes on. Nothing is chosen on `eval`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
from steps import ROOT, commit, machine, run_step

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import read_json, write_csv, write_json
from facecade.faces.split import assign_folds
from facecade.faces.table import classes, read_source, require_sound
from facecade.recipe_file import parse, read_toml
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.results import table
from facecade.report.text import difference, interval

PARTS, SEED = 3, 7

METHODS = {
    "mean": "what the networks of all folds say, averaged",
    "soup": "one network: the mean of the folds' weights",
    "refit": "one network, trained once more on everybody",
    "first": "one network: fold 0's",
}

CLOSE = 0.003
"""Macro-F1 that a cheaper way may lose on `mean` and still be the default."""


def measure(part: int, recipe: Path, people: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Fit a run on the people outside a part, and answer for the part by each way; what was done before is kept."""
    kept, log, run = folder / "steps.json", folder / "steps.log", folder / "run"
    steps: dict[str, dict[str, Any]] = read_json(kept) if kept.exists() else {}
    outside, inside = people[people["part"] != part], people[people["part"] == part]
    columns = ["path", "person", "mask", "gender", "age"]
    write_csv(folder / "train.csv", outside[columns])
    write_csv(folder / "part.csv", inside.assign(mask="", gender="", age="")[columns])

    def step(name: str, *words: object) -> None:
        if name not in steps:
            steps[name] = run_step(f"part {part} {name}", [str(word) for word in words], log)
            write_json(kept, steps)

    begin = ["--data", folder / "train.csv", "--recipe", recipe, "--resume", "--artifacts", run]
    step("fit", "fit-stage", "all", *begin, "--set", "ensemble=mean")
    step("fit refit", "fit-stage", "all", "--resume", "--set", "ensemble=refit", "--artifacts", run)
    step("fit-meta", "fit-meta", "--artifacts", run)
    for way in ("mean", "first", "refit", "soup"):
        if way == "soup":
            step("fit soup", "fit-stage", "all", "--resume", "--set", "ensemble=soup", "--artifacts", run)
            step("fit-meta soup", "fit-meta", "--artifacts", run)
        exported = folder / "export" / way
        step(f"export {way}", "export", exported, "--artifacts", run, "--ensemble", way)
        words = ["--artifacts", exported, "--engine", "openvino", "--output", folder / way]
        step(way, "infer", folder / "part.csv", *words)
    return list(steps.values())


def page(result: dict[str, Any]) -> str:
    """benchmarks/ANSWERING.md."""
    names = ("macro-F1", "accuracy", "gender accuracy", "band accuracy", "age MAE")
    rows = [
        [
            f"`{way}`",
            METHODS[way],
            str(said["networks"]),
            *(interval(said["score"][name], 2 if name == "age MAE" else 4) for name in names),
            "" if way == "mean" else difference(said["change"]),
        ]
        for way, said in result["methods"].items()
    ]
    head = ["`answer`", "what it is", "networks", *names, "macro-F1 over `mean`"]
    minutes = {name: seconds / 60 for name, seconds in result["seconds"].items()}
    return f"""# Which networks should answer

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `{result["command"]}`.

A network of everybody cannot be scored on people that it learned from. So the {result["people"]} people are split into {result["parts"]} parts,
stratified as folds are. For each part a whole run of `{result["recipe"]}` (its {result["folds"]} folds, combiner, refit and soup) learns from the
other people, and answers for the part by each way. The scores are of all parts together: {result["images"]} images, each answered by
networks and a combiner that never saw its person. Each run has {result["parts"] - 1}/{result["parts"]} of the people that a run of all has, so that the scores are
lower than that one's; what is compared is the ways.

{table(head, rows)}

The default is the cheapest way whose macro-F1 is within {CLOSE} of `mean`: **`{result["default"]}`**. Intervals are 95 %, by bootstrap over
people, the last column's paired; they are wider than {CLOSE}, so that the order of near ways is not settled by them. *Networks* are
those that an image is shown to; how quick each way is, `benchmarks/INFERENCE.md` says.

Our reading, which was not measured: the folds begin alike but part early, at rates that train them in three epochs, so that the
mean of their weights lies where none of them has been; and one network lacks the averaging that makes several less sure of
themselves where they differ.

Fitting the folds took {minutes["fit"]:.1f} minutes, the refits {minutes["fit refit"]:.1f} more, the soups {minutes["fit soup"]:.1f}.
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/quick.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/answering"), show_default=True)
def main(data: Path, recipe: Path, artifacts: Path) -> None:
    """Measure on the people of DATA; write benchmarks/ANSWERING.md."""
    source, asked = read_source(data), parse(read_toml(recipe))
    people = require_sound(source)
    people = people.assign(
        part=assign_folds(people, PARTS, SEED), path=[str((source.root / path).resolve()) for path in people["path"]]
    )
    folders = [artifacts.resolve() / f"part{part}" for part in range(PARTS)]
    steps = [step for part, folder in enumerate(folders) for step in measure(part, recipe, people, folder)]
    answered = {
        way: pd.concat([pd.read_csv(folder / way / "predictions.csv", dtype={"ImageID": str}) for folder in folders])
        for way in METHODS
    }
    order = answered["mean"]["ImageID"]
    truth = people.set_index("path").loc[order]
    label, person, age = classes(truth), truth["person"].to_numpy(), truth["age"].to_numpy()
    ways: dict[str, Any] = {}
    for way, said in answered.items():
        assert said["ImageID"].equals(order)
        assert not said["flags"].astype(str).str.contains("trained-on").any(), "someone answered for was learned from"
        ways[way] = {
            "networks": len(asked.stages) * len(asked.predicting(way)),
            "score": as_json(score(label, said["ans"].to_numpy(), person, age, said["age"].to_numpy())),
            "change": paired_difference(
                label, said["ans"].to_numpy(), answered["mean"]["ans"].to_numpy(), person
            ).json(),
        }
    close = [way for way, said in ways.items() if said["change"]["value"] >= -CLOSE]
    result = {
        "machine": machine(),
        "commit": ", ".join(sorted({step["commit"] for step in steps} | {commit()})),
        "command": " ".join(["python benchmarks/answering.py", *sys.argv[1:]]),
        "people": people["person"].nunique(),
        "images": len(order),
        "parts": PARTS,
        "folds": asked.folds,
        "recipe": recipe,
        "methods": ways,
        "default": min(close, key=lambda way: (ways[way]["networks"], list(METHODS).index(way))),
        "seconds": {
            name: sum(step["seconds"] for step in steps if step["step"].endswith(f" {name}"))
            for name in ("fit", "fit refit", "fit soup")
        },
    }
    write_json(ROOT / "output/answering.json", result)
    target = ROOT / "benchmarks/ANSWERING.md"
    target.write_text(page(result))
    click.echo(target)


if __name__ == "__main__":
    main()
