"""What an audit finds on real images, and how corrections change the score; write benchmarks/CORRECTING.md.

    python cli.py audit --artifacts artifacts/quick --output output/quick
    python cli.py fit-stage all --data DATA --recipe recipes/quick.toml --corrections output/quick/corrections.csv --artifacts artifacts/corrected
    python cli.py fit-meta --artifacts artifacts/corrected
    python benchmarks/correcting.py artifacts/quick artifacts/corrected

A person reviews corrections.csv between the first command and the second. Both runs must be fitted on the same images.
The corrections are read from their tables. Nothing is chosen by these scores.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.errors import FacecadeError
from facecade.combiner.audit import Finding, audit
from facecade.faces.table import classes
from facecade.pages.audit import KIND_DESCRIPTIONS
from facecade.report.metrics import as_json, bootstrap_interval, macro_f1_draws, paired_difference, score
from facecade.report.nested import NestedPredictions
from facecade.report.results import score_interval, table
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run, open_run

LISTED = 0.5
"""Probability from which `audit` lists a finding as a correction."""


def changed(before: pd.DataFrame, after: pd.DataFrame) -> set[tuple[str, str]]:
    """Labels that differ between two tables of the same images: (path, field)."""
    return {
        (path, field)
        for field in ("mask", "gender", "age")
        for path in before["path"][(before[field] != after[field]).to_numpy()]
    }


def confirmed(found: Sequence[Finding], paths: np.ndarray, corrected: set[tuple[str, str]]) -> list[list[str]]:
    """Rows of a table: of each kind how many the audit lists, how many of these a person corrected, and the ranks of
    the other corrected ones."""
    rows = []
    for kind, description in KIND_DESCRIPTIONS.items():
        of_kind = [(rank, finding) for rank, finding in enumerate(found, 1) if finding.kind == kind]
        agreed = [
            (rank, finding)
            for rank, finding in of_kind
            if all((str(paths[row]), finding.field) in corrected for row in finding.rows)
        ]
        listed = sum(finding.score >= LISTED for _, finding in of_kind)
        right = sum(finding.score >= LISTED for _, finding in agreed)
        below = [str(rank) for rank, finding in agreed if finding.score < LISTED]
        rows.append([description, str(listed), str(right), ", ".join(below) or "-"])
    return rows


def scores_against(nested: NestedPredictions, label: np.ndarray, age: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores of nested predictions by labels (N,) and ages (N,), which may differ from those that were trained on."""
    return as_json(score(label, nested.prediction, nested.person, age, nested.years))


def compared(before: Run, after: Run) -> dict[str, Any]:
    """All results of the page."""
    found = audit(before.table, out_of_fold_outputs(before), before.cap)
    out_of_fold_outputs(after)  # refuses a run that is not fitted
    first, second = NestedPredictions.read(before.folder), NestedPredictions.read(after.folder)
    if not first.table["path"].equals(second.table["path"]):
        raise FacecadeError("the two runs have different images", "start both with the same --data")
    corrected = changed(first.table, second.table)
    label, age = classes(second.table), second.age
    return {
        "found": found,
        "paths": first.table["path"].to_numpy(),
        "corrected": corrected,
        "images": len(label),
        "people": len(np.unique(first.person)),
        "people_corrected": len({path.rpartition("/")[0] for path, _ in corrected}),
        "scores": {
            "trained on recorded labels, scored by recorded labels": scores_against(first, first.label, first.age),
            "the same predictions, scored by corrected labels": scores_against(first, label, age),
            "trained on corrected labels, scored by corrected labels": scores_against(second, label, age),
        },
        "labels": _shift(first, label),
        "learning": paired_difference(label, second.prediction, first.prediction, first.person).json(),
    }


def _shift(nested: NestedPredictions, label: np.ndarray) -> dict[str, float]:
    """Macro-F1 of the same predictions by corrected labels minus that by recorded ones, on the same resampled
    people."""
    draws = [macro_f1_draws(each, nested.prediction, nested.person) for each in (label, nested.label)]
    values = [score(each, nested.prediction, nested.person)["macro-F1"].value for each in (label, nested.label)]
    return bootstrap_interval(values[0] - values[1], draws[0] - draws[1]).json()


def page(result: Mapping[str, Any], command: str) -> str:
    """benchmarks/CORRECTING.md."""
    names = ("macro-F1", "accuracy", "mask accuracy", "gender accuracy", "band accuracy", "age MAE")
    rows = [[run, *(score_interval(name, scores[name]) for name in names)] for run, scores in result["scores"].items()]
    fields = {
        field: len({path.rpartition("/")[0] for path, of in result["corrected"] if of == field})
        for field in ("mask", "gender", "age")
    }
    labels, learning = (score_interval("macro-F1", result[name]) for name in ("labels", "learning"))
    found = confirmed(result["found"], result["paths"], result["corrected"])
    return f"""# What an audit finds, and how corrections change the score

Machine: {machine()}. Commit: {commit()}. Written by `{command}`; every number is read from the two runs.

`audit` on {result["images"]} images of {result["people"]} people, by networks that were trained without them. *Listed* are findings with a
probability of {LISTED} or more, which it writes down as corrections. *Corrected* are those that a person confirmed on the thumbnails;
doubtful ones were not changed. So the share counts obvious errors only: it is a lower bound on the wrong labels.

{table(["kind of error", "listed", "of these corrected", "ranks of the others corrected"], found)}

Corrected in total: {result["people_corrected"]} people ({fields["mask"]} with two files swapped or a mask relabelled, {fields["gender"]} of the other gender, {fields["age"]} of another age).

## The nested score

{table(["run", *names], rows)}

Scoring by corrected labels changes macro-F1 by {labels}, training on them by {learning} (95 %, paired by person).

Corrections were searched only where the networks disagree with the labels, so scoring with them can hardly lower the score.
Folds are stratified by labels: the corrected run has other folds, and so other networks.
"""


@click.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True))
@click.argument("after", type=click.Path(path_type=Path, exists=True))
def main(before: Path, after: Path) -> None:
    """Compare the run AFTER, started with corrections, to the run BEFORE, whose audit found them."""
    target = ROOT / "benchmarks/CORRECTING.md"
    command = " ".join(["python benchmarks/correcting.py", *sys.argv[1:]])
    target.write_text(page(compared(open_run(before), open_run(after)), command))
    click.echo(target)


if __name__ == "__main__":
    main()
