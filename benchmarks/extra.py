"""What extra people give: fit a recipe without the extra data that its run was trained on, compare the two runs, and write the section
on extra data into benchmarks/RESULTS.md.

    python benchmarks/extra.py ../shared/data/faces

The run with extra data is the one that `released.py make` leaves. Both have the same folds, epochs and seeds. A step that is done is not
run again, so an interrupted call resumes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from released import DATA, SETTINGS
from steps import ROOT, Steps, commit, into, machine

sys.path.insert(0, str(ROOT))
from facecade.report.evaluate import match, read_labels
from facecade.report.metrics import paired_difference, score
from facecade.report.nested import NestedPredictions
from facecade.report.results import SCORES, score_interval, table
from facecade.report.text import difference
from facecade.runs.run import open_run

MARK = "extra"
"""Of the section in RESULTS.md."""


@dataclass(frozen=True)
class Scored:
    """Predictions by one run: `image` names the rows, `label` and `prediction` are classes, `age` and `years` years; all (N,)."""

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    person: np.ndarray
    age: np.ndarray
    years: np.ndarray

    @classmethod
    def nested(cls, run: Path) -> Scored:
        """A run's nested predictions: nothing that predicted a row knew its label."""
        rows = NestedPredictions.read(run)
        image = rows.table["id"].to_numpy()
        return cls(image, rows.label, rows.prediction, rows.person, rows.age, rows.years)

    @classmethod
    def on_eval(cls, predictions: Path, labels: Path) -> Scored:
        """Predictions of `infer`, of images that the run never saw."""
        match(predictions, labels)
        truth = read_labels(labels)
        rows = pd.read_csv(predictions, dtype={"ImageID": str}).set_index("ImageID").loc[truth.index]
        years = rows["age"].to_numpy(float)
        return cls(
            truth.index.to_numpy(),
            truth["ans"].to_numpy(),
            rows["ans"].to_numpy(int),
            truth["person"].to_numpy(),
            truth["age"].to_numpy(float),
            years,
        )


def compared(extra: Scored, without: Scored) -> list[list[str]]:
    """Two rows: the scores of both, and the difference in macro-F1, paired by person.

    Raises:
        click.ClickException: they are not of the same images.
    """
    if not np.array_equal(extra.image, without.image):
        raise click.ClickException("the two runs predicted different images")
    gain = paired_difference(extra.label, extra.prediction, without.prediction, extra.person)
    rows = []
    for name, each, last in (("with", extra, difference(gain.json())), ("without", without, "-")):
        scores = score(each.label, each.prediction, each.person, each.age, each.years)
        rows.append([name, *(score_interval(key, scores[key].json()) for key in SCORES), last])
    return rows


@click.command()
@click.argument("data", type=DATA)
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/released.toml"), show_default=True)
@click.option(
    "--with",
    "made",
    type=click.Path(path_type=Path, exists=True),
    default=Path("artifacts/released"),
    show_default=True,
    help="What `released.py make` left.",
)
@click.option(
    "--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/without-extra"), show_default=True
)
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "benchmarks/RESULTS.md")
@SETTINGS
def main(data: Path, recipe: Path, made: Path, artifacts: Path, page: Path, settings: tuple[str, ...]) -> None:
    """Compare on the folds of DATA/train and on DATA/eval."""
    changed = [word for setting in settings for word in ("--set", setting)]
    steps, run = Steps(artifacts), artifacts / "run"
    begin = ["--data", data / "train", "--recipe", recipe, "--artifacts", run]
    steps("fit-stage", "fit-stage", "all", "--resume", *begin, *changed)
    steps("fit-meta", "fit-meta", "--artifacts", run)
    runs = {"with": made / "run", "without": run}
    for name, each in runs.items():
        steps(f"infer {name}", "infer", data / "eval", "--artifacts", each, "--output", artifacts / name)
    labels = data / "eval/eval_labels.csv"
    on_eval = {name: Scored.on_eval(artifacts / name / "predictions.csv", labels) for name in runs}
    nested = {name: Scored.nested(folder) for name, folder in runs.items()}
    extra = open_run(made / "run").extra_data
    head = ["", "extra data", *SCORES, "macro-F1, difference"]
    rows = [
        [where, *row]
        for where, both in (("nested", nested), ("eval", on_eval))
        for row in compared(both["with"], both["without"])
    ]
    added = pd.concat([each.table for each in extra.values()]).drop_duplicates("content")
    text = f"""## What extra people give

`{recipe}` with and without `--extra`: {len(added):,} images of {added["person"].nunique():,} people of other origins, who wear no mask; the same folds, epochs and seeds, so with
extra data each network takes more steps. Every fold trains on all extra people, none is scored. No recipe's score above has them. Written by
`python benchmarks/extra.py`. Machine: {machine()}. Commit: {commit()}; the run with extra data is that of `benchmarks/RELEASED.md`.

{table(head, rows)}"""
    into(page, MARK, text)
    click.echo(text)


if __name__ == "__main__":
    main()
