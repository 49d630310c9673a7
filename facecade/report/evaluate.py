"""Score predictions against labels, both from CSV files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from facecade.base.artifact import Record, read_record, write_record
from facecade.base.errors import FacecadeError, problems
from facecade.base.fields import Count, Digest, Probability, Text
from facecade.base.origin import read_origin
from facecade.base.program import command, option
from facecade.base.progress import note
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.labels import N_CLASSES
from facecade.records import ClassF1, PerClass, Score, Scores
from facecade.report.metrics import as_json, class_f1, confusion, score
from facecade.report.predictions import PREDICTIONS, SUBMISSION, UNANSWERED, split_flags


class Answered(Record):
    """What of the scored predictions is not flagged as `unsure`. score: macro-F1 and accuracy; empty where there is no answer."""

    images: Count
    coverage: Probability
    score: dict[Text, Score]


class Evaluation(Record):
    """evaluation.json: scores of predictions, with 95 % intervals.

    people: None where the labels name nobody. confusion: counts; rows are true classes, columns predicted ones. run:
    `CombinerRecord.signature` of the run that predicted; None where that is not known. answered: None where nothing is unsure.
    """

    made_by: ClassVar[str] = "evaluate PREDICTIONS LABELS"

    images: Count
    people: Count | None
    score: Scores
    per_class_f1: ClassF1
    per_class_count: Annotated[list[Count], PerClass]
    confusion: Annotated[list[Annotated[list[Count], PerClass]], PerClass]
    run: Digest | None = None
    answered: Answered | None = None

    @classmethod
    def remake(cls, path: Path) -> str:
        return cls.made_by + option("--output", path.parent, "output")

    def counted(self, kind: str = "") -> str:
        """Its images and people, as `2,800 images of 400 other people` with the kind `other `; the images alone where the
        labels name nobody."""
        return f"{self.images:,} images" + ("" if self.people is None else f" of {self.people:,} {kind}people")


@dataclass(frozen=True)
class LabeledPredictions:
    """Labels and predictions (N,), the person of each image, and true and predicted ages (years) where both are
    known. people_known: whether the labels name the people; if not, each image counts as a person. run: signature of the run
    that predicted, where it is known. answered: bool (N,); None
    where nothing is flagged as unsure."""

    label: np.ndarray
    prediction: np.ndarray
    person: np.ndarray
    age: np.ndarray | None
    years: np.ndarray | None
    people_known: bool = True
    run: str | None = None
    answered: np.ndarray | None = None


def match(predictions: Path, labels: Path) -> LabeledPredictions:
    """Match predictions to labels, in the labels' order.

    Raises:
        FacecadeError: rows do not match, the labels are blank forms, or images were trained on.
    """
    predicted, truth = _read_predictions(predictions), read_labels(labels)
    details = predictions.parent / PREDICTIONS
    if "age" not in predicted and details.exists():  # a submission has classes only; predictions.csv has ages and flags
        full = _read_predictions(details)
        if full.index.equals(predicted.index) and full["ans"].fillna(predicted["ans"]).equals(predicted["ans"]):
            predicted = full.assign(ans=predicted["ans"])
    missing = truth.index.difference(predicted.index)
    if len(missing):
        raise FacecadeError(f"{predictions} lacks {len(missing)} of the labelled images, first {missing[0]}")
    if len(predicted) > len(truth):
        note(f"{len(predicted) - len(truth)} predictions have no label and are not scored")
    predicted = predicted.loc[truth.index]
    if none := int(predicted["ans"].isna().sum()):
        note(f"{none} images have no prediction, because they cannot be read, and are not scored")
        predicted = predicted[predicted["ans"].notna()]
        truth = truth.loc[predicted.index]
    if not len(truth):
        raise FacecadeError(f"{predictions} has no prediction for any labelled image")
    trained_on = predicted["flags"].astype(str).str.contains("trained-on").sum() if "flags" in predicted else 0
    if trained_on:
        raise FacecadeError(
            f"{trained_on} of these images were trained on: their score says nothing about new people",
            f"the unbiased score of training images is the nested one: {command('ls')}",
        )
    origin = read_origin(predictions.parent, "predictions") if predictions.name in (SUBMISSION, PREDICTIONS) else None
    run = origin.run if origin else None
    label, prediction = truth["ans"].to_numpy(np.int64), predicted["ans"].to_numpy(np.int64)
    people_known = "person" in truth
    person = truth["person"].to_numpy() if people_known else truth.index.to_numpy()
    if not people_known:
        note("labels name no person: intervals are over images, and too narrow")
    answered, age, years = _answered_rows(predicted), None, None
    if "age" in truth and "age" in predicted:
        age, years = truth["age"].to_numpy(float), predicted["age"].to_numpy(float)
        if np.isnan(years).any():
            note("age MAE left out: some images could not be read, or no stage predicts years")
            age, years = None, None
    return LabeledPredictions(label, prediction, person, age, years, people_known, run, answered)


def _answered_rows(predicted: pd.DataFrame) -> np.ndarray | None:
    """Which predictions are answers, bool (N,); None if none is flagged as unsure."""
    flags = [split_flags(str(text)) for text in predicted["flags"]] if "flags" in predicted else []
    if not any("unsure" in each for each in flags):
        return None
    return np.array([not any(flag.partition(":")[0] in UNANSWERED for flag in each) for each in flags], bool)


def evaluate(predictions: LabeledPredictions, output: Path) -> Evaluation:
    """Score predictions against labels, with intervals over people where the labels name them.

    Returns:
        The contents of `output/evaluation.json`.
    """
    result = Evaluation(
        images=len(predictions.label),
        people=len(np.unique(predictions.person)) if predictions.people_known else None,
        score=as_json(
            score(predictions.label, predictions.prediction, predictions.person, predictions.age, predictions.years)
        ),
        per_class_f1=class_f1(predictions.label, predictions.prediction),
        per_class_count=np.bincount(predictions.label, minlength=N_CLASSES).tolist(),
        confusion=confusion(predictions.label, predictions.prediction).tolist(),
        run=predictions.run,
        answered=None if predictions.answered is None else _answered(predictions, predictions.answered),
    )
    write_record(output / "evaluation.json", result)
    return result


def _answered(predictions: LabeledPredictions, rows: np.ndarray) -> Answered:
    """The scores of some rows, bool (N,)."""
    scores: dict[str, dict[str, float]] = {}
    if rows.any():
        scores = as_json(score(predictions.label[rows], predictions.prediction[rows], predictions.person[rows]))
    kept = {name: value for name, value in scores.items() if name in ("macro-F1", "accuracy")}
    return Answered(images=int(rows.sum()), coverage=float(rows.mean()), score=kept)


def is_of_run(path: Path, signature: str) -> bool:
    """Whether an evaluation.json is of predictions by the run with this signature (`CombinerRecord.signature`). Notes why not."""
    run = read_record(path, Evaluation).run
    if run != signature:
        reason = "it is not known which run made its predictions" if run is None else "another run made its predictions"
        note(f"{path} is not shown: {reason}; infer and evaluate again with this run")
    return run == signature


def _read_predictions(path: Path) -> pd.DataFrame:
    """A submission or predictions CSV, by ImageID; `ans` is missing for images that could not be read."""
    return _read_table(path, {"age": None}, blank_with_flag=True)


def read_labels(path: Path) -> pd.DataFrame:
    """A labels CSV, by ImageID."""
    table = _read_table(path, {"age": "write years", "person": "name one"})
    if len(table) > 1 and (table["ans"] == 0).all():
        raise FacecadeError(
            f"{path} has 0 for every image: a form to fill in, not labels", "give the file with the true classes"
        )
    return table.astype({"ans": np.int64})


def _read_table(path: Path, complete: Mapping[str, str | None], blank_with_flag: bool = False) -> pd.DataFrame:
    """A CSV with `ImageID,ans`: each image once, `ans` a class. Reports every bad row.

    Args:
        complete: optional columns to check, with the advice for a blank cell; None where blank is allowed.
        blank_with_flag: `ans` may be blank in rows with a flag.
    """
    rows = read_csv_rows(path, ["ImageID", "ans"])
    if not rows:
        raise FacecadeError(f"{path} has no rows")
    lines: list[str] = []
    seen: set[str] = set()
    for row in rows:
        name, prediction = row.cells["ImageID"], row.cells["ans"]
        wrong = list(row.problems)
        if not name:
            wrong.append("no ImageID")
        elif name in seen:
            wrong.append(f"ImageID '{name}' appears twice")
        blank = blank_with_flag and not prediction and row.cells.get("flags")
        if not blank and _number(prediction) not in range(N_CLASSES):
            wrong.append(f"ans is '{prediction}', expected 0 to {N_CLASSES - 1}")
        for column, advice in complete.items():
            value = row.cells.get(column)
            if advice and value == "":
                wrong.append(f"{column} is blank; {advice}, or leave the column out")
            elif column == "age" and value and not np.isfinite(_number(value)):
                wrong.append(f"age is '{value}', expected years")
        seen.add(name)
        lines += [f"row {row.number}: {reason}" for reason in wrong]
    if lines:
        raise problems(path, lines, max_lines=20)
    table = pd.DataFrame([row.cells for row in rows]).set_index("ImageID")
    table["ans"] = table["ans"].map(_number).astype("Int64")
    if "age" in table:
        table["age"] = table["age"].map(_number)
    return table


def _number(text: str) -> float:
    """A cell as a number; NaN if it is not one."""
    try:
        return float(text)
    except ValueError:
        return np.nan
