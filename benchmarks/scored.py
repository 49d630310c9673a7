"""People as tables with absolute paths, and predictions of their images beside the labels: what benchmarks on new people share."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
from steps import ROOT

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_csv
from facecade.faces.source import read_source, require_no_problems
from facecade.faces.table import classes
from facecade.report.evaluate import match, read_labels
from facecade.report.metrics import Interval, paired_difference, score

COLUMNS = ["path", "person", "mask", "gender", "age"]


def people_of(data: Path) -> pd.DataFrame:
    """A data set's rows, with absolute paths."""
    source = read_source(data)
    rows = require_no_problems(source)
    return rows.assign(path=[str((source.root / path).resolve()) for path in rows["path"]])[COLUMNS]


def write_to_predict(folder: Path, name: str, rows: pd.DataFrame) -> None:
    """Write NAME.csv, images without labels, and NAME-labels.csv, by which `evaluate` scores them."""
    write_csv(folder / f"{name}.csv", rows.assign(mask="", gender="", age=""))
    labels = {"ImageID": rows["path"], "ans": classes(rows), "person": rows["person"], "age": rows["age"]}
    write_csv(folder / f"{name}-labels.csv", pd.DataFrame(labels))


def scored(predictions: Path, labels: Path) -> pd.DataFrame:
    """Rows with `label, prediction, person, age, years, confidence, probability`, by ImageID, of the images that could be read; an error
    where an image was trained on."""
    match(predictions, labels)
    truth, predicted = read_labels(labels), pd.read_csv(predictions, dtype={"ImageID": str}).set_index("ImageID")
    predicted = predicted.loc[truth.index]
    readable = predicted["ans"].notna()
    truth, predicted = truth[readable], predicted[readable]
    prediction = predicted["ans"].astype(int).to_numpy()
    probability = predicted[[f"p{label}" for label in range(18)]].to_numpy()
    return pd.DataFrame(
        {
            "label": truth["ans"].to_numpy(),
            "prediction": prediction,
            "person": truth["person"].to_numpy(),
            "age": truth["age"].to_numpy(float),
            "years": predicted["age"].to_numpy(float),
            "confidence": predicted["confidence"].to_numpy(float),
            "probability": probability[np.arange(len(prediction)), prediction],
        },
        index=truth.index,
    )


def scores_of(rows: pd.DataFrame) -> dict[str, Interval]:
    """The main scores of `scored` rows."""
    columns = (rows[name].to_numpy() for name in ("label", "prediction", "person", "age", "years"))
    return score(*columns)


def gain(first: pd.DataFrame, second: pd.DataFrame) -> Interval:
    """Macro-F1 of the first minus that of the second, paired by person.

    Raises:
        click.ClickException: they are not of the same images.
    """
    if not first.index.equals(second.index):
        raise click.ClickException("these are predictions of different images")
    label, person = first["label"].to_numpy(), first["person"].to_numpy()
    return paired_difference(label, first["prediction"].to_numpy(), second["prediction"].to_numpy(), person)
