"""The sample table: one row per image, whatever layout it is read from (`faces.source`).

Columns: `path` (relative to the dataset's root), `id`, `person`, `mask`, `gender` (names, empty if
unknown), `age` (years, NaN if unknown), `middle` (whether that is the middle of a band, and years are unknown), `left`, `top`, `right`, `bottom` (of a face box that came with the data, in pixels; NaN if the face is to be
detected), `where` (the table
and the row that the labels are from). `faces.split` adds `fold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.files import read_bytes
from facecade.faces.boxes import SIDES, box_columns
from facecade.faces.csv_rows import MAX_TABLE_BYTES
from facecade.faces.labels import GENDERS, MASKS, band_of, encode

COLUMNS = ["path", "id", "person", "mask", "gender", "age", "middle", *SIDES, "where"]
SAVED_COLUMNS = ["path", "person", "mask", "gender", "age", "fold", "content"]
TEXT_DTYPES = {"path": str, "id": str, "person": str, "mask": str, "gender": str, "content": str}


def sample_table(rows: Sequence[Sequence[object]]) -> pd.DataFrame:
    """A table of `COLUMNS` with these rows. Text is held as Python objects: pyarrow, which pandas uses for text where it is
    installed, refuses file names that are not UTF-8."""
    numbers = {"middle": bool, **dict.fromkeys(["age", *SIDES], float)}
    return pd.DataFrame(list(rows), columns=COLUMNS, dtype=object).astype(numbers)


def read_saved_table(path: Path) -> pd.DataFrame:
    """Read a sample table that a run wrote, with all its columns.

    Raises:
        FacecadeError: it is damaged: it lacks a column, or holds a value that no run writes.
    """
    hint = "start a new run with --data and --recipe"
    try:
        table = pd.read_csv(
            BytesIO(read_bytes(path, MAX_TABLE_BYTES)),
            dtype={**TEXT_DTYPES, **dict.fromkeys(["age", *SIDES], str), "fold": np.int64},
            keep_default_na=False,
        )
        missing = [column for column in SAVED_COLUMNS if column not in table]
        if missing:
            raise ValueError(f"it lacks the column(s) {', '.join(missing)}")
        # Python reads a number to the last bit: run.json has a hash of the ages.
        for column in ("age", *(SIDES if set(SIDES) <= set(table) else [])):
            table[column] = np.array([float(text) if text else np.nan for text in table[column]], float)
        _require_saved_values(table)
    except FacecadeError as error:
        raise FacecadeError(str(error), hint) from None
    except (ValueError, OverflowError) as error:
        raise FacecadeError(f"{path} is damaged: {first_line(error)}", hint) from None
    return table


def _require_saved_values(table: pd.DataFrame) -> None:
    """Raises ValueError for what no run writes into a table."""
    right = {
        "mask": table["mask"].isin([*MASKS, ""]),
        "gender": table["gender"].isin([*GENDERS, ""]),
        "age": table["age"].isna() | table["age"].between(0, 120, inclusive="right"),
        "fold": table["fold"] >= 0,
        "content": table["content"].str.fullmatch("[0-9a-f]{32}"),
    }
    if box_columns(table):
        boxes = table[SIDES]
        whole = boxes.abs().lt(1e6).all(axis=1) & (boxes["left"] < boxes["right"]) & (boxes["top"] < boxes["bottom"])
        right["left"] = boxes.isna().all(axis=1) | whole
    for column, values in right.items():
        if not values.all():
            raise ValueError(f"{column} is {excerpt(table[column][~values].iloc[0])!r} in row {values.argmin() + 2}")


def classes(table: pd.DataFrame) -> np.ndarray:
    """Class 0..17 of every row, int64; -1 where a label is missing."""
    labelled = (table["mask"] != "") & (table["gender"] != "") & table["age"].notna()
    result = np.full(len(table), -1, np.int64)
    rows = table[labelled]
    result[labelled.to_numpy()] = encode(
        rows["mask"].map(MASKS.index).to_numpy(), rows["gender"].map(GENDERS.index).to_numpy(), band_of(rows["age"])
    )
    return result


def labelled_rows(table: pd.DataFrame) -> np.ndarray:
    """The rows with all three labels, int64 (n,): those that the combiner is fitted on and scored on."""
    return np.flatnonzero(classes(table) >= 0)


def age_cap(age: np.ndarray) -> float | None:
    """The age at which a dataset is censored, or None.

    Censoring shows as a peak at the maximum: all older people have that age as their label. The count
    there is compared with the mean of the five ages below by a Poisson bound.

    Args:
        age: ages in years, one for each person.
    """
    age = age[~np.isnan(age)]
    if not len(age):
        return None
    top = float(age.max())
    at_top = int((age == top).sum())
    below = float(((age < top) & (age >= top - 5)).sum()) / 5
    return top if at_top >= 5 and at_top > 1.5 * below + 3 * math.sqrt(below + 1) else None
