"""Which networks should predict: those of all folds, averaged, or one? And how far is the recipe ahead of others on new people? Measured
on people that no network was trained on; write benchmarks/ANSWERING.md.

    python benchmarks/answering.py ../shared/data/faces/train --beside artifacts/compare/imagenet/inception-newfocal

A network trained on all people cannot be scored on any of them. So the people are split once more: for each part, a
whole run (folds, combiner, refit, soup) is fitted on the others and predicts the part with each ensemble. Every command
is one of `cli.py`; an interrupted call resumes. Nothing is chosen on `eval`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import pandas as pd
import tomli_w
from scored import COLUMNS, gain, people_of, scored, scores_of, write_to_predict
from steps import ROOT, Steps, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_csv, write_text
from facecade.base.choices import EnsembleKind
from facecade.faces.split import assign_folds
from facecade.recipe_file import parse, read_toml
from facecade.records import read_fit_record
from facecade.report.results import score_interval, table
from facecade.report.text import difference
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

SCORES = ("macro-F1", "accuracy", "gender accuracy", "band accuracy", "age MAE")


@dataclass(frozen=True)
class Part:
    """The people of one part, and those outside it, as tables in a folder, where all runs on them are too."""

    folder: Path

    @classmethod
    def write(cls, folder: Path, outside: pd.DataFrame, inside: pd.DataFrame) -> Part:
        write_csv(folder / "train.csv", outside[COLUMNS])
        write_to_predict(folder, "part", inside[COLUMNS])
        return cls(folder)

    def fit(self, name: str, recipe: Path, ensemble: EnsembleKind) -> Steps:
        """Fit a run of a recipe on the people outside the part."""
        steps, run = Steps(self.folder / name), self.run(name)
        begin = ["--data", self.folder / "train.csv", "--recipe", recipe, "--artifacts", run]
        steps("fit", "fit-stage", "all", "--resume", *begin, "--set", f"ensemble={ensemble}")
        if "trained" not in steps.done["fit"]:  # `soup` will take the place of the networks trained on all people
            steps.done["fit"]["trained"] = training_seconds(open_run(run))
            steps.save()
        steps("fit-meta", "fit-meta", "--artifacts", run)
        return steps

    def fit_soup(self, name: str, steps: Steps) -> None:
        """Let the mean of the folds' weights take the place of the networks trained on all people."""
        run = self.run(name)
        steps("fit soup", "fit-stage", "all", "--resume", "--set", "ensemble=soup", "--artifacts", run)
        steps("fit-meta soup", "fit-meta", "--artifacts", run)

    def infer(self, name: str, steps: Steps, ensemble: EnsembleKind) -> None:
        """Predict the part."""
        folder = self.folder / name
        exported = folder / "export" / ensemble
        steps(f"export {ensemble}", "export", exported, "--artifacts", self.run(name), "--ensemble", ensemble)
        words = ["--artifacts", exported, "--engine", "openvino", "--output", folder / ensemble]
        steps(ensemble, "infer", self.folder / "part.csv", *words)

    def run(self, name: str) -> Path:
        return self.folder / name / "run"


def training_seconds(run: Run) -> dict[str, float]:
    """Seconds of training on one core: of the networks of all folds, and of those trained on all people."""
    seconds = {"folds": 0.0, "all people": 0.0}
    for stage in run.recipe.stages:
        for fit in run.recipe.fits:
            record = read_fit_record(run.fold_folder(stage, fit))
            seconds["folds" if fit < run.recipe.folds else "all people"] += record.seconds
    return seconds


@dataclass(frozen=True)
class Predicted:
    """Predictions of all parts, as rows of `scored`. networks: how many run on an image."""

    rows: pd.DataFrame
    networks: int

    @classmethod
    def read(cls, parts: Sequence[Part], name: str, ensemble: EnsembleKind) -> Predicted:
        tables = [
            scored(part.folder / name / ensemble / "predictions.csv", part.folder / "part-labels.csv") for part in parts
        ]
        recipe = open_run(parts[0].run(name)).recipe
        return cls(pd.concat(tables), len(recipe.stages) * len(recipe.inference_fits(ensemble)))

    def row(self) -> list[str]:
        """Networks and scores, for a table."""
        scores = scores_of(self.rows)
        return [str(self.networks), *(score_interval(s, scores[s].json()) if s in scores else "-" for s in SCORES)]


def page(about: Mapping[str, Any], ensembles: Mapping[EnsembleKind, Predicted], others: Mapping[str, Predicted]) -> str:
    """benchmarks/ANSWERING.md."""
    mean = ensembles["mean"]
    rows, close = [], []
    for ensemble, each in ensembles.items():
        gap = gain(each.rows, mean.rows)
        rows.append(
            [f"`{ensemble}`", ENSEMBLES[ensemble], *each.row(), difference(gap.json()) if each is not mean else ""]
        )
        close += [ensemble] if gap.value >= -MAX_LOSS else []
    cheapest = min(close, key=lambda each: (ensembles[each].networks, list(ENSEMBLES).index(each)))
    head = ["networks", *SCORES]
    minutes = {name: f"{seconds / 60:.1f} minutes" for name, seconds in about["seconds"].items()}
    text = f"""# Which networks should predict

Machine: {machine()}. Commit: {about["commit"]}. Written by `{about["command"]}`.

A network trained on all people cannot be scored on any of them. So the {mean.rows["person"].nunique()} people are split into {PARTS} parts, stratified
like folds. For each part a whole run of `{about["recipe"]}` (its {about["folds"]} folds, combiner, refit and soup) is fitted on the other
people and predicts the part with each ensemble. The scores are of all parts together: {len(mean.rows)} images, each predicted by
networks and a combiner that were fitted without its person. Each run is fitted on {PARTS - 1}/{PARTS} of the people, so the scores are
lower than those of a run on all people: compare the rows with each other only.

{table(["`ensemble`", "what it is", *head, "macro-F1 against `mean`"], rows)}

The recipe's ensemble should be the cheapest whose macro-F1 is within {MAX_LOSS} of that of `mean`: **`{cheapest}`**. Intervals are 95 %, by
bootstrap over people; those of the last column are paired. *Networks* is how many networks run on an image; `benchmarks/INFERENCE.md` has
the speed.

Of all parts together: training the networks of all folds took {minutes["folds"]} of one core, those on all people {minutes["all people"]} more;
the soups took {minutes["soup"]}.
"""
    if not others:
        return text
    beside = [[name, *each.row(), difference(gain(each.rows, mean.rows).json())] for name, each in others.items()]
    return f"""{text}
## Other recipes on the same new people

*Eval* has few people, so the interval of a difference between two recipes is wide there. Here each recipe predicts {mean.rows["person"].nunique()} new people, also
by the mean of its folds' networks. The others have the settings and weights of `benchmarks/COMPARISON.md`, and as many folds as `{about["recipe"].stem}`.

{table(["recipe", *head, f"macro-F1 against `{about['recipe'].stem}`"], [[about["recipe"].stem, *mean.row(), ""], *beside])}
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/quick.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/answering"), show_default=True)
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A run whose recipe is fitted on the same people, and predicts by `mean`.",
)
def main(data: Path, recipe: Path, artifacts: Path, beside: tuple[Path, ...]) -> None:
    """Measure on the people of DATA; write benchmarks/ANSWERING.md."""
    parsed, people = parse(read_toml(recipe)), people_of(data)
    people = people.assign(part=assign_folds(people, PARTS, SEED))
    parts = [
        Part.write(artifacts.resolve() / f"part{part}", people[people["part"] != part], people[people["part"] == part])
        for part in range(PARTS)
    ]
    records = []
    for part in parts:
        steps = part.fit("own", recipe, "refit")
        for ensemble in cast("tuple[EnsembleKind, ...]", ("mean", "first", "refit")):
            part.infer("own", steps, ensemble)
        part.fit_soup("own", steps)
        part.infer("own", steps, "soup")
        records.append(steps.done)
    for run in beside:
        written = artifacts / f"{run.name}.toml"
        write_text(written, tomli_w.dumps({**open_run(run).tables, "folds": parsed.folds}))
        for part in parts:
            steps = part.fit(run.name, written, "mean")
            part.infer(run.name, steps, "mean")
            records.append(steps.done)
    own = [each for each in records if "fit soup" in each]
    about = {
        "commit": ", ".join(sorted({step["commit"] for each in records for step in each.values()} | {commit()})),
        "command": " ".join(["python benchmarks/answering.py", *sys.argv[1:]]),
        "recipe": recipe,
        "folds": parsed.folds,
        "seconds": {
            **{name: sum(each["fit"]["trained"][name] for each in own) for name in ("folds", "all people")},
            "soup": sum(each["fit soup"]["seconds"] for each in own),
        },
    }
    ensembles = {ensemble: Predicted.read(parts, "own", ensemble) for ensemble in ENSEMBLES}
    others = {f"`{run.name}`": Predicted.read(parts, run.name, "mean") for run in beside}
    target = ROOT / "benchmarks/ANSWERING.md"
    write_text(target, page(about, ensembles, others))
    click.echo(target)


if __name__ == "__main__":
    main()
