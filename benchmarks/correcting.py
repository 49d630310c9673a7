"""What an audit finds on real images, and what correcting it does to the score; write benchmarks/CORRECTING.md.

    python cli.py audit --artifacts artifacts/quick --output output/quick
    python cli.py fit-stage all --data DATA --recipe recipes/quick.toml --corrections output/quick/corrections.csv --artifacts artifacts/corrected
    python cli.py fit-meta --artifacts artifacts/corrected
    python benchmarks/correcting.py artifacts/quick artifacts/corrected

A person looks through corrections.csv between the first command and the second. Both runs must be fitted, on the same images;
what was corrected is read from their tables. Nothing is chosen by what is written here.
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

from facecade.runs.fits import out_of_fold_outputs

sys.path.insert(0, str(ROOT))
from facecade.base.errors import FacecadeError
from facecade.combiner.audit import Finding, audit
from facecade.faces.table import classes
from facecade.pages.audit import KINDS
from facecade.report.metrics import as_json, bootstrap_interval, macro_f1_draws, paired_difference, score
from facecade.report.nested import NestedPredictions
from facecade.report.results import interval_of, table
from facecade.runs.run import Run, open_run

LISTED = 0.5
"""Probability from which `audit` puts a finding down as a correction."""


def changed(before: pd.DataFrame, after: pd.DataFrame) -> set[tuple[str, str]]:
    """Labels that differ between two tables of the same images: (path, field)."""
    return {
        (path, field)
        for field in ("mask", "gender", "age")
        for path in before["path"][(before[field] != after[field]).to_numpy()]
    }


def believed(found: Sequence[Finding], paths: np.ndarray, corrected: set[tuple[str, str]]) -> list[list[str]]:
    """Of each kind how many the audit lists, how many of these a person corrected, and where in the ranking the others were
    that a person corrected."""
    rows = []
    for kind, words in KINDS.items():
        of_kind = [(place, one) for place, one in enumerate(found, 1) if one.kind == kind]
        agreed = [
            (place, one) for place, one in of_kind if all((str(paths[row]), one.field) in corrected for row in one.rows)
        ]
        listed = sum(one.score >= LISTED for _, one in of_kind)
        right = sum(one.score >= LISTED for _, one in agreed)
        below = [str(place) for place, one in agreed if one.score < LISTED]
        rows.append([words, str(listed), str(right), ", ".join(below) or "-"])
    return rows


def scored(evidence: NestedPredictions, label: np.ndarray, age: np.ndarray) -> dict[str, dict[str, float]]:
    """Nested answers against labels (N,) and ages (N,) that may be other than they were learned from."""
    return as_json(score(label, evidence.prediction, evidence.person, age, evidence.years))


def compared(before: Run, after: Run) -> dict[str, Any]:
    """Everything that the page says."""
    found = audit(before.table, out_of_fold_outputs(before), before.cap)
    out_of_fold_outputs(after)  # refuses a run that is not fitted
    first, second = NestedPredictions.read(before.folder), NestedPredictions.read(after.folder)
    if not first.table["path"].equals(second.table["path"]):
        raise FacecadeError("the two runs are of different images", "begin both with the same --data")
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
            "learned from labels as recorded, scored by them": scored(first, first.label, first.age),
            "the same answers, scored by corrected labels": scored(first, label, age),
            "learned from corrected labels, scored by them": scored(second, label, age),
        },
        "labels": _shift(first, label),
        "learning": paired_difference(label, second.prediction, first.prediction, first.person).json(),
    }


def _shift(evidence: NestedPredictions, label: np.ndarray) -> dict[str, float]:
    """Macro-F1 of the same answers by corrected labels less that by recorded ones, on the same resampled people."""
    draws = [macro_f1_draws(each, evidence.prediction, evidence.person) for each in (label, evidence.label)]
    values = [score(each, evidence.prediction, evidence.person)["macro-F1"].value for each in (label, evidence.label)]
    return bootstrap_interval(values[0] - values[1], draws[0] - draws[1]).json()


def page(result: Mapping[str, Any], command: str) -> str:
    """benchmarks/CORRECTING.md."""
    names = ("macro-F1", "accuracy", "mask accuracy", "gender accuracy", "band accuracy", "age MAE")
    rows = [[what, *(interval_of(name, said[name]) for name in names)] for what, said in result["scores"].items()]
    fields = {
        field: len({path.rpartition("/")[0] for path, of in result["corrected"] if of == field})
        for field in ("mask", "gender", "age")
    }
    labels, learning = (interval_of("macro-F1", result[name]) for name in ("labels", "learning"))
    found = believed(result["found"], result["paths"], result["corrected"])
    return f"""# What an audit finds, and what correcting it does

Machine: {machine()}. Commit: {commit()}. Written by `{command}`; every number is read from the two runs.

`audit` on {result["images"]} images of {result["people"]} people, by networks that never saw them. *Listed* are the findings of probability
{LISTED} or more, which it puts down as corrections; *corrected* are those that a person believed who looked at the thumbnails, leaving alone whatever
was in doubt. So the share is of errors plain to see, and a lower bound on what is wrong.

{table(["what may be wrong", "listed", "of these corrected", "others corrected, by their place in the ranking"], found)}

Corrected in all: {result["people_corrected"]} people ({fields["mask"]} with two files swapped or a mask relabelled, {fields["gender"]} of the other gender, {fields["age"]} of another age).

## The nested score

{table(["run", *names], rows)}

The labels alone move macro-F1 by {labels}, learning from them by {learning} (95 %, paired by person).

Corrections were looked for where the networks disagreed with the labels, so that the labels alone can hardly move the score but upwards. Folds
are stratified by labels: those of the corrected run are other ones, and so are its networks.
"""


@click.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True))
@click.argument("after", type=click.Path(path_type=Path, exists=True))
def main(before: Path, after: Path) -> None:
    """Compare the run AFTER, begun with corrections, to the run BEFORE that they were found by."""
    target = ROOT / "benchmarks/CORRECTING.md"
    command = " ".join(["python benchmarks/correcting.py", *sys.argv[1:]])
    target.write_text(page(compared(open_run(before), open_run(after)), command))
    click.echo(target)


if __name__ == "__main__":
    main()
