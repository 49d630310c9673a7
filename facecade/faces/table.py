"""The sample table: one row per image, read from any of the supported layouts.

Columns: `path` (relative to the dataset's root), `id`, `person`, `mask`, `gender` (names, empty if
unknown), `age` (years, NaN if unknown), `where` (the CSV and the row that the labels are from). `faces.split` adds `fold`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError, excerpt, first_line, problems
from facecade.base.files import is_file, printable, read_bytes
from facecade.faces.csv_rows import MAX_TABLE_BYTES, Row, read_csv_rows
from facecade.faces.labels import GENDERS, MASKS, band_of, encode
from facecade.faces.listing import IMAGE_SUFFIXES, NamedFiles, composed, file_reason, list_images, passed_over_text
from facecade.faces.people import contradicting_genders

TABLE_SUFFIXES = (".csv", ".tsv")
COLUMNS = ["path", "id", "person", "mask", "gender", "age", "where"]
SAVED_COLUMNS = ["path", "person", "mask", "gender", "age", "fold", "content"]
TEXT_DTYPES = {"path": str, "id": str, "person": str, "mask": str, "gender": str, "content": str}
MAX_MISSING, MAX_MISSING_SHARE = 3, 0.01
"""How many rows may lack their file, whichever is more: a few images that were lost."""

FILE_MASKS = {**{f"mask{i}": "wear" for i in range(1, 6)}, "incorrect_mask": "incorrect", "normal": "normal"}
"""The competition's file names and the mask state of each."""

YEARS = re.compile(r"[0-9]+(\.[0-9]+)?")
"""An age as written: no sign, exponent, underscore or digits of other scripts, which Python's `float` takes."""

EXPECTED = {"mask": ", ".join(MASKS), "gender": "male or female", "age": "years between 1 and 120"}
"""Values of each label, in words."""


@dataclass(frozen=True)
class Problem:
    """A problem of a row or a file: where it is, and a message."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Source:
    """A dataset as found on disk.

    problems: of rows and files. notes: what a user may not expect, but is no error. missing: of rows without a file, also if
    they have another problem. passed_over: number of files and folders that are not used, by reason.
    """

    root: Path
    layout: str
    table: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def image_ids(self) -> list[str]:
        """The name of each image in predictions: its ImageID in `info.csv`, else its path; as text that a CSV can hold."""
        return [printable(name) for name in self.table["id" if self.layout == "evaluation" else "path"]]

    @property
    def labelled(self) -> bool:
        return bool((self.table[["mask", "gender"]] != "").any(axis=None) or self.table["age"].notna().any())


def read_source(data: Path) -> Source:
    """Read a competition folder, an inference folder, a manifest, a folder of images or one file.

    Problems are collected, not raised. Raises FacecadeError if the path is none of these, or in a folder whose path is not
    UTF-8, which records could not name.
    """
    folder = str(data.resolve() if data.is_dir() else data.resolve().parent)
    if printable(folder) != folder:
        raise FacecadeError(f"{printable(folder)}: the path is not UTF-8", "rename the folder")
    if data.is_file():
        if data.suffix.lower() in TABLE_SUFFIXES:
            return _read_manifest(data)
        if data.suffix.lower() in IMAGE_SUFFIXES:
            return Source(data.parent, "image", _plain_rows([data.name]))
        raise FacecadeError(f"{data} is neither a CSV nor an image", f"images end in {', '.join(IMAGE_SUFFIXES)}")
    if not data.is_dir():
        raise FacecadeError(f"{data} does not exist", "give a data folder, a manifest CSV or an image")
    if (data / "train.csv").is_file():
        return _read_competition(data)
    if (data / "info.csv").is_file():
        return _read_info(data)
    if (data / "manifest.csv").is_file():
        return _read_manifest(data / "manifest.csv")
    subfolders = [child.name for child in sorted(data.iterdir()) if (child / "train.csv").is_file()]
    if subfolders:
        raise FacecadeError(f"{data} has no train.csv", f"did you mean {data / subfolders[0]}?")
    listing = list_images(data)
    notes = [passed_over_text(listing.passed_over)] if listing.passed_over else []
    if not listing.images:
        raise FacecadeError(
            "; ".join([f"{data} has no images", *notes]),
            f"expected train.csv or info.csv with images/, a manifest.csv, or images that end in {', '.join(IMAGE_SUFFIXES)}",
        )
    return Source(data, "images", _plain_rows(listing.images), notes=notes, passed_over=listing.passed_over)


def read_saved_table(path: Path) -> pd.DataFrame:
    """Read a sample table that a run wrote, with all its columns.

    Raises:
        FacecadeError: it is damaged: it lacks a column, or holds a value that no run writes.
    """
    hint = "start a new run with --data and --recipe"
    try:
        table = pd.read_csv(
            BytesIO(read_bytes(path, MAX_TABLE_BYTES)),
            dtype={**TEXT_DTYPES, "age": str, "fold": np.int64},
            keep_default_na=False,
        )
        missing = [column for column in SAVED_COLUMNS if column not in table]
        if missing:
            raise ValueError(f"it lacks the column(s) {', '.join(missing)}")
        # Python reads a number to the last bit: run.json has a hash of the ages.
        table["age"] = np.array([float(age) if age else np.nan for age in table["age"]], float)
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
    for column, values in right.items():
        if not values.all():
            raise ValueError(f"{column} is {excerpt(table[column][~values].iloc[0])!r} in row {values.argmin() + 2}")


def require_no_problems(source: Source) -> pd.DataFrame:
    """The table of a labelled source; raises one FacecadeError that lists all its problems."""
    if source.problems:
        lines = [str(problem) for problem in source.problems]
        raise problems(source.root, lines, "fix the rows, or skip them with --skip-bad", max_lines=50)
    return source.table


def require_files(source: Source) -> None:
    """Raises FacecadeError if more than a few rows have no file: a submission of one class looks like any other."""
    rows, missing = len(source.table), len(source.missing)
    if missing == rows > 0 or missing > max(MAX_MISSING, MAX_MISSING_SHARE * rows):
        raise FacecadeError(
            f"{missing} of {rows} images do not exist:\n  "
            + "\n  ".join(excerpt(each, 200) for each in source.missing[:5]),
            "fix the names, or predict the most frequent class for them: --allow-missing",
        )


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


def _plain_rows(paths: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({"path": paths, "id": paths})
    return table.assign(person="", mask="", gender="", age=np.nan, where="")[COLUMNS]


def is_label(name: str, text: str) -> bool:
    """Whether a text is a value of `mask`, `gender` or `age`."""
    if name == "age":
        return 0 < _years(text) <= 120
    return text.lower() in {"mask": MASKS, "gender": GENDERS}[name]


def _years(text: str) -> float:
    """An age in years; NaN if the text is none."""
    return float(text) if YEARS.fullmatch(text) else math.nan


def _label_errors(row: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """The problems of some of a row's labels."""
    wrong = [name for name in names if not is_label(name, row[name])]
    return [f"{name} is '{excerpt(row[name])}', expected {EXPECTED[name]}" for name in wrong]


def _read_competition(root: Path) -> Source:
    """`train.csv` (id,gender,race,age,path) with seven files for each person in `images/<path>/`."""
    sheet = root / "train.csv"
    table: list[tuple[str, str, str, str, str, float, str]] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    passed_over: Counter[str] = Counter()
    folders = _folders(root / "images")
    by_composed, used = {composed(name): name for name in folders}, set[str]()
    for line in read_csv_rows(sheet, ["id", "gender", "age", "path"]):
        row, where = line.cells, f"{sheet.name} row {line.number}"
        errors = [*line.problems, *_label_errors(row, ["gender", "age"])]
        person = row["path"]
        if person in seen:
            errors.append(f"path '{person}' is already in row {seen[person]}")
        seen.setdefault(person, line.number)
        name = person if person in folders else by_composed.get(composed(person), "")
        used.add(name)
        if name not in folders:
            errors.append(f"no folder images/{person}")
        problems += [Problem(where, message) for message in errors]
        if errors:
            continue
        files: dict[str, str] = {}
        for path in sorted(folders[name].iterdir()):
            if reason := file_reason(path):
                passed_over[reason] += 1
                continue
            state, relative = path.stem.lower(), path.relative_to(root).as_posix()
            if state not in FILE_MASKS:
                problems.append(Problem(relative, f"unknown file name; expected {', '.join(FILE_MASKS)}"))
            elif state in files:
                problems.append(Problem(relative, f"a second {state}, next to {files[state]}"))
            else:
                files[state] = relative
        missing = [state for state in FILE_MASKS if state not in files]
        if missing:
            problems.append(Problem(where, f"images/{person} lacks {', '.join(missing)}"))
        table += [
            (path, row["id"], person, FILE_MASKS[state], row["gender"].lower(), _years(row["age"]), where)
            for state, path in sorted(files.items())
        ]
    frame = pd.DataFrame(table, columns=COLUMNS)
    notes = [passed_over_text(passed_over)] if passed_over else []
    if unnamed := sorted(folders.keys() - used):
        notes.append(f"{len(unnamed)} folder(s) in images/ that train.csv does not name: {', '.join(unnamed[:5])}")
    return Source(root, "competition", frame, problems, notes, passed_over=passed_over)


def _folders(images: Path) -> dict[str, Path]:
    """The folders of people by their name."""
    found = sorted(images.iterdir()) if images.is_dir() else []
    return {path.name: path for path in found if path.is_dir() and not path.name.startswith(".")}


def _read_info(root: Path) -> Source:
    """`info.csv` (ImageID,ans) with `images/`: one row for each line, in its order, also if the image is missing."""
    rows = read_csv_rows(root / "info.csv", ["ImageID"])
    names = [row.cells["ImageID"] for row in rows]
    files = NamedFiles(root / "images")
    found = [files.find(name) for name in names]
    paths = [
        path or name.replace("..", "__").lstrip("/") for path, name in zip(found, names)
    ]  # never outside of images/
    table = _plain_rows([f"images/{path}" for path in paths]).assign(id=names)
    problems, missing = [], []
    first: dict[str, int] = {}
    for row, name, path in zip(rows, names, found, strict=True):
        where = f"info.csv row {row.number}"
        problems += [Problem(where, message) for message in row.problems]
        if path is None:
            missing.append(Problem(where, f"no file images/{name}" if name else "no ImageID"))
        if name and name in first:
            problems.append(Problem(where, f"ImageID '{name}' is already in row {first[name]}"))
        elif path is None:
            problems.append(missing[-1])
        first.setdefault(name, row.number)
    notes = [f"{files.respelled} name(s) of info.csv found in another spelling"] if files.respelled else []
    return Source(root, "evaluation", table, problems, notes, missing=missing)


def _read_manifest(sheet: Path) -> Source:
    """A CSV with `path,person,mask,gender,age`; paths are relative to the CSV's folder, or absolute.

    A blank label is unknown. If no row has a label, the images are to be predicted, and all rows are kept.
    """
    rows = read_csv_rows(sheet, ["path", "person", "mask", "gender", "age"])
    if rows and not any(row.cells[name] for row in rows for name in ("mask", "gender", "age")):
        return _unlabelled(sheet, rows)
    table: list[tuple[str, str, str, str, str, float, str]] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for line in rows:
        row, where = line.cells, f"{sheet.name} row {line.number}"
        errors = [*line.problems, *_label_errors(row, [name for name in ("mask", "gender", "age") if row[name]])]
        if not row["person"]:
            errors.append("no person: all images of a person need the same name here")
        if not row["path"] or not is_file(sheet.parent / row["path"]):
            errors.append(f"no file '{row['path']}'")
        if row["path"] in seen:
            errors.append(f"path '{row['path']}' is already in row {seen[row['path']]}")
        seen.setdefault(row["path"], line.number)
        problems += [Problem(where, message) for message in errors]
        if not errors:
            labels = row["mask"].lower(), row["gender"].lower(), _years(row["age"])
            table.append((row["path"], row["path"], row["person"], *labels, where))
    frame = pd.DataFrame(table, columns=COLUMNS)
    wrong = contradicting_genders(frame)
    problems += [Problem(str(frame["where"][index]), message) for index, message in wrong.items()]
    return Source(sheet.parent, "manifest", frame.drop(index=list(wrong)).reset_index(drop=True), problems)


def _unlabelled(sheet: Path, rows: Sequence[Row]) -> Source:
    """A manifest without labels: one row for each line, in its order, also if the image is missing."""
    problems = [Problem(f"{sheet.name} row {row.number}", message) for row in rows for message in row.problems]
    missing = [
        Problem(f"{sheet.name} row {row.number}", f"no file '{row.cells['path']}'")
        for row in rows
        if not row.cells["path"] or not is_file(sheet.parent / row.cells["path"])
    ]
    table = _plain_rows([row.cells["path"] for row in rows]).assign(person=[row.cells["person"] for row in rows])
    return Source(sheet.parent, "manifest", table, [*problems, *missing], missing=missing)
