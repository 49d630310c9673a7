"""Answers against labels: two CSV files, one score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.artifact import read_json, write_json
from facecade.base.errors import FacecadeError, problems
from facecade.base.program import command
from facecade.base.progress import note
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.labels import N_CLASSES
from facecade.report.metrics import as_json, class_f1, confusion, score


@dataclass(frozen=True)
class Scored:
    """Images with a label and an answer (N,), who each shows, and where both are known true and estimated ages."""

    label: np.ndarray
    prediction: np.ndarray
    person: np.ndarray
    age: np.ndarray | None
    years: np.ndarray | None


def match(predictions: Path, labels: Path) -> Scored:
    """Answers beside their labels, in the labels' order.

    Raises:
        FacecadeError: rows do not match, labels are not labels, or images were trained on.
    """
    said, truth = _read_answers(predictions), read_labels(labels)
    beside = predictions.parent / "predictions.csv"
    if "age" not in said and beside.exists():  # a submission has answers alone; what we wrote beside it has more
        full = _read_answers(beside)
        if full["ans"].equals(said["ans"]):
            said = full
    missing = truth.index.difference(said.index)
    if len(missing):
        raise FacecadeError(f"{predictions} lacks {len(missing)} of the labelled images, first {missing[0]}")
    if len(said) > len(truth):
        note(f"{len(said) - len(truth)} answers have no label and are not scored")
    said = said.loc[truth.index]
    trained = said["flags"].astype(str).str.contains("trained-on").sum() if "flags" in said else 0
    if trained:
        raise FacecadeError(
            f"{trained} of these images were trained on: a score of them says nothing of new people",
            f"the honest score of training images is the nested one: {command('ls')}",
        )
    label, prediction = truth["ans"].to_numpy(np.int64), said["ans"].to_numpy(np.int64)
    if "person" in truth:
        person = truth["person"].to_numpy()
    else:
        note("labels name no person: intervals are over images, and narrower than they should be")
        person = truth.index.to_numpy()
    if "age" not in truth or "age" not in said:
        return Scored(label, prediction, person, None, None)
    age, years = truth["age"].to_numpy(float), said["age"].to_numpy(float)
    if np.isnan(years).any():
        note("age MAE left out: some images could not be seen, or no stage knows years")
        return Scored(label, prediction, person, None, None)
    return Scored(label, prediction, person, age, years)


def evaluate(both: Scored, output: Path) -> dict[str, Any]:
    """Score answers against labels, with intervals over people where the labels name them.

    Returns:
        What `output/evaluation.json` holds.
    """
    result = {
        "images": len(both.label),
        "people": len(np.unique(both.person)),
        "score": as_json(score(both.label, both.prediction, both.person, both.age, both.years)),
        "per_class_f1": class_f1(both.label, both.prediction),
        "per_class_count": np.bincount(both.label, minlength=N_CLASSES),
        "confusion": confusion(both.label, both.prediction),
    }
    write_json(output / "evaluation.json", result)
    return read_json(output / "evaluation.json")


def _read_answers(path: Path) -> pd.DataFrame:
    """A submission or predictions CSV, by ImageID."""
    return _read_table(path, {"age": None})


def read_labels(path: Path) -> pd.DataFrame:
    """A labels CSV, by ImageID."""
    table = _read_table(path, {"age": "write years", "person": "name one"})
    if len(table) > 1 and (table["ans"] == 0).all():
        raise FacecadeError(
            f"{path} says 0 for every image: a form to fill in, not labels", "give the file with the true classes"
        )
    return table


def _read_table(path: Path, complete: Mapping[str, str | None]) -> pd.DataFrame:
    """A CSV with `ImageID,ans`, each image once and its answer a class; every bad row named.

    Args:
        complete: further columns that matter, where they are there; with what is wrong with a blank one, if anything is.
    """
    rows = read_csv_rows(path, ["ImageID", "ans"])
    if not rows:
        raise FacecadeError(f"{path} has no rows")
    lines: list[str] = []
    seen: set[str] = set()
    for row in rows:
        name, prediction = row.cells["ImageID"], row.cells["ans"]
        wrong = list(row.wrong)
        if not name:
            wrong.append("no ImageID")
        elif name in seen:
            wrong.append(f"ImageID '{name}' stands twice")
        if _number(prediction) not in range(N_CLASSES):
            wrong.append(f"ans is '{prediction}', expected 0 to {N_CLASSES - 1}")
        for column, what in complete.items():
            value = row.cells.get(column)
            if what and value == "":
                wrong.append(f"{column} is blank; {what}, or leave the column out")
            elif column == "age" and value and not np.isfinite(_number(value)):
                wrong.append(f"age is '{value}', expected years")
        seen.add(name)
        lines += [f"row {row.number}: {what}" for what in wrong]
    if lines:
        raise problems(path, lines, most=20)
    table = pd.DataFrame([row.cells for row in rows]).set_index("ImageID")
    table["ans"] = table["ans"].map(_number).astype(np.int64)
    if "age" in table:
        table["age"] = table["age"].map(_number)
    return table


def _number(text: str) -> float:
    """A cell as a number; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return np.nan
