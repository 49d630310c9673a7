"""What extra people give: fit a recipe without the extra data that its run was trained on, compare the two runs, and write the section
on extra data into benchmarks/RESULTS.md.

    python benchmarks/extra.py ../shared/data/faces

The run with extra data is the one that `released.py make` leaves. Both have the same folds, epochs and seeds. A step that is done is not
run again, so an interrupted call resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pandas as pd
from released import DATA, SETTINGS
from scored import gain, scored, scores_of
from steps import ROOT, Steps, commit, into, machine

sys.path.insert(0, str(ROOT))
from facecade.report.nested import NestedPredictions
from facecade.report.results import SCORES, score_interval, table
from facecade.report.text import difference
from facecade.runs.run import open_run

MARK = "extra"
"""Of the section in RESULTS.md."""


def nested_rows(run: Path) -> pd.DataFrame:
    """A run's nested predictions, as rows of `scored`; nothing that predicted a row knew its label."""
    rows = NestedPredictions.read(run)
    columns = {"label": rows.label, "prediction": rows.prediction, "person": rows.person, "age": rows.age}
    return pd.DataFrame({**columns, "years": rows.years}).set_index(rows.table["id"])


def compared(extra: pd.DataFrame, without: pd.DataFrame) -> list[list[str]]:
    """Two rows: the scores of both, and the difference in macro-F1, paired by person."""
    rows = []
    for name, each, last in (("with", extra, difference(gain(extra, without).json())), ("without", without, "-")):
        scores = scores_of(each)
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
    on_eval = {name: scored(artifacts / name / "predictions.csv", labels) for name in runs}
    nested = {name: nested_rows(folder) for name, folder in runs.items()}
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
