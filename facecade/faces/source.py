"""A dataset as found on disk: its layout is recognised, and its rows are checked, all in one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from facecade.base.errors import FacecadeError, excerpt, problems
from facecade.base.files import printable
from facecade.faces.boxes import ImageFile, box_problem, images_of
from facecade.faces.label_text import EXPECTED, LABELS, Age, age_of, is_label, spaced, suggestion
from facecade.faces.layouts.class_folders import class_folders, folder_labels, not_understood_note
from facecade.faces.layouts.coco import coco
from facecade.faces.layouts.competition import evaluation, training
from facecade.faces.layouts.given import Given, GivenRow
from facecade.faces.layouts.manifest import manifest
from facecade.faces.layouts.plain import images, one_image
from facecade.faces.listing import IMAGE_SUFFIXES, list_images, passed_over_text
from facecade.faces.people import contradicting_genders
from facecade.faces.problems import Problem, grouped, map_hint
from facecade.faces.reading import AS_WRITTEN, Reading
from facecade.faces.table import sample_table

TABLES: dict[str, Callable[[Path, Reading], Given]] = {
    ".csv": manifest,
    ".tsv": manifest,
    ".parquet": manifest,
    ".json": coco,
}
"""How a file that lists images is read, by its extension."""

MAX_MISSING, MAX_MISSING_SHARE = 3, 0.01
"""How many rows may lack their file, whichever is more: a few images that were lost."""


@dataclass(frozen=True)
class Source:
    """A dataset as found on disk.

    problems: of rows and files. notes: what a user may not expect, but is no error; label_notes: the same of labels and people, which
    do not matter where images are predicted. missing: of rows without a file, also if
    they have another problem. passed_over: number of files and folders that are not used, by reason. path: as it was given.
    """

    root: Path
    layout: str
    table: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    label_notes: list[str] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    path: Path = Path()

    @property
    def asks_for_submission(self) -> bool:
        """Whether it is a form to fill in: an `info.csv`."""
        return self.layout == "evaluation"

    @property
    def image_ids(self) -> list[str]:
        """The name of each image in predictions: its ImageID in `info.csv`, else its path; as text that a CSV can hold."""
        return [printable(name) for name in self.table["id" if self.asks_for_submission else "path"]]

    @property
    def images(self) -> list[ImageFile]:
        """The image of each row."""
        return images_of(self.root, self.table)

    @property
    def labelled(self) -> bool:
        return bool((self.table[["mask", "gender"]] != "").any(axis=None) or self.table["age"].notna().any())


def read_source(data: Path, reading: Reading = AS_WRITTEN) -> Source:
    """Read a dataset in any layout (docs/own-images.md).

    Problems are collected, not raised. Raises FacecadeError if the path is none of these, or in a folder whose path is not
    UTF-8, which records could not name.
    """
    folder = str(data.resolve() if data.is_dir() else data.resolve().parent)
    if printable(folder) != folder:
        raise FacecadeError(f"{printable(folder)}: the path is not UTF-8", "rename the folder")
    given = _given(data, reading)
    if reading.folders is not None and given.layout != "class folders":
        raise FacecadeError(f"{data} has no folders of classes, which --layout names", "leave out --layout")
    return replace(check(given, reading), path=data)


def _given(data: Path, reading: Reading) -> Given:
    """The rows of a dataset, as they are written."""
    if data.is_file():
        if read := TABLES.get(data.suffix.lower()):
            return read(data, reading)
        if data.suffix.lower() in IMAGE_SUFFIXES:
            return one_image(data)
        raise FacecadeError(
            f"{data} is neither a manifest ({', '.join(TABLES)}) nor an image",
            f"images end in {', '.join(IMAGE_SUFFIXES)}",
        )
    if not data.is_dir():
        raise FacecadeError(f"{data} does not exist", "give a data folder, a manifest or an image")
    if reading.folders is None:
        for name, layout in (("train.csv", training), ("info.csv", evaluation)):
            if (data / name).is_file():
                return layout(data)
        for suffix, read in TABLES.items():
            if (data / f"manifest{suffix}").is_file():
                return read(data / f"manifest{suffix}", reading)
    subfolders = [child.name for child in sorted(data.iterdir()) if (child / "train.csv").is_file()]
    if subfolders:
        raise FacecadeError(f"{data} has no train.csv", f"did you mean {data / subfolders[0]}?")
    listing = list_images(data)
    if not listing.images:
        passed_over = [passed_over_text(listing.passed_over)] if listing.passed_over else []
        raise FacecadeError(
            "; ".join([f"{data} has no images", *passed_over]),
            f"expected train.csv or info.csv with images/, a manifest, or images that end in {', '.join(IMAGE_SUFFIXES)}",
        )
    labels = folder_labels(listing, reading)
    if reading.folders is not None or None not in labels.values():
        return class_folders(data, listing, labels, reading)
    plain = images(data, listing)
    if any(labels.values()):
        return Given(
            data, "images", plain.rows, notes=[not_understood_note(labels), *plain.notes], passed_over=plain.passed_over
        )
    return plain


def check(given: Given, reading: Reading) -> Source:
    """The sample table of a dataset's rows, and the problems of those that are left out. Where no row has a label, the images
    are to be predicted, and every row is kept in its order."""
    if not any(text for row in given.rows for text in row.labels.values()) and not given.required:
        return _unlabelled(given)
    used = _UsedWords(reading)
    person_of, person_notes = _people(given, reading)
    table, found, missing, bands = [], [*given.problems], [], Counter[tuple[str, float]]()
    seen: dict[str, str] = {}
    for row in given.rows:
        labels = {name: used.label(name, row.labels.get(name, "")) for name in LABELS}
        errors = [*row.problems, *_label_problems(row, labels, given.required), *_box_problems(row)]
        missing += [row.missing] if row.missing else []
        if not row.path:
            found += errors
            continue
        person = person_of(row)
        if not person:
            errors.append(_no_person(row, reading))
        errors += [row.missing] if row.missing else []
        if row.path in seen:
            errors.append(
                Problem(row.where, f"path '{row.path}' is already in {_short(seen[row.path])}", "path of another row")
            )
        seen.setdefault(row.path, row.where)
        found += errors
        if not errors:
            age = age_of(labels["age"]) if labels["age"] else None
            if age and age.of_band:
                bands[labels["age"], age.years] += 1
            table.append(_table_row(row, person, labels, age))
    frame = sample_table(table)
    wrong = contradicting_genders(frame)
    kind = "a person of two genders"
    found += [Problem(str(frame["where"][index]), message, kind) for index, message in wrong.items()]
    frame = frame.drop(index=list(wrong)).reset_index(drop=True)
    return Source(
        given.root,
        given.layout,
        frame,
        list(dict.fromkeys(found)),
        list(given.notes),
        [*given.label_notes, *person_notes, *_band_notes(bands), *used.notes()],
        missing,
        dict(given.passed_over),
    )


def _unlabelled(given: Given) -> Source:
    rows = given.rows
    missing = [row.missing for row in rows if row.missing]
    problems = [
        each for row in rows for each in (*row.problems, *_box_problems(row), *([row.missing] if row.missing else []))
    ]
    table = [_table_row(row, row.person, dict.fromkeys(LABELS, ""), None) for row in rows]
    return Source(
        given.root,
        given.layout,
        sample_table(table),
        [*given.problems, *problems],
        list(given.notes),
        list(given.label_notes),
        missing,
        dict(given.passed_over),
    )


def _table_row(row: GivenRow, person: str, labels: Mapping[str, str], age: Age | None) -> tuple[object, ...]:
    years, middle = (age.years, age.middle) if age else (float("nan"), False)
    where = row.where if labels["mask"] or labels["gender"] or labels["age"] else ""
    name = row.name or row.path
    box = map(float, row.box) if any(row.box) and not _box_problems(row) else [float("nan")] * 4
    return row.path, name, person, labels["mask"].lower(), labels["gender"].lower(), years, middle, *box, where


def _label_problems(row: GivenRow, labels: Mapping[str, str], required: Sequence[str]) -> list[Problem]:
    """The problems of a row's labels."""
    problems = []
    for name, text in labels.items():
        if (text or name in required) and not is_label(name, text):
            near = suggestion(name, text)
            message = f"{name} is '{excerpt(text)}', expected {EXPECTED[name]}"
            more = f"; did you mean {near}?" if near else ""
            problems.append(Problem(row.where, message + more, map=f"{name}.{text}={near}" if near else ""))
    return problems


def _box_problems(row: GivenRow) -> list[Problem]:
    """The problem of a row's face box."""
    problem = box_problem(row.box) if any(row.box) else ""
    return [Problem(row.where, problem)] if problem else []


def _no_person(row: GivenRow, reading: Reading) -> Problem:
    if reading.person:
        return Problem(
            row.where, f"--person-pattern finds no person in '{excerpt(row.path)}'", "--person-pattern finds no person"
        )
    return Problem(row.where, "no person: all images of a person need the same name here")


def _short(where: str) -> str:
    return "row " + where.rpartition(" row ")[2] if " row " in where else where


def _people(given: Given, reading: Reading) -> tuple[Callable[[GivenRow], str], list[str]]:
    """Who is on an image, and what to note about it. Where no row names a person, each image is a person of its own."""
    named = any(row.person for row in given.rows)
    if reading.person:
        return (lambda row: row.person or reading.person_of(row.path)), []
    if named:
        return (lambda row: row.person), []
    notes = [
        "no person is known: each image counts as a person of its own, so images of one person may be in several folds, and scores"
        " be too high; a column person or --person-pattern says who it is"
    ]
    names = Counter(PurePosixPath(row.path).name for row in given.rows)
    if repeated := sum(count > 1 for count in names.values()):
        notes.append(
            f"{repeated} file names occur in several folders; if each is one person: --person-pattern '([^/]+)$'"
        )
    return (lambda row: row.path), notes


def _band_notes(bands: Mapping[tuple[str, float], int]) -> list[str]:
    """What the ages are where only bands are known."""
    if not bands:
        return []
    each = ", ".join(f"{text} as {years:g} ({count} images)" for (text, years), count in sorted(bands.items()))
    return [
        f"ages: only a band is known of {sum(bands.values())} images: {each}; classes and their scores are right, predicted years and"
        " their errors (MAE) are only as exact as the bands"
    ]


class _UsedWords:
    """Replaces words of the data by the labels they are mapped to, and remembers which occurred."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.count = reading, Counter[tuple[str, str]]()

    def label(self, name: str, text: str) -> str:
        label = self.reading.label(name, text)
        if self.reading.words and spaced(text) in self.reading.words.get(name, {}):
            self.count[name, spaced(text)] += 1
        return label

    def notes(self) -> list[str]:
        """What was mapped, and how often."""
        return [
            f"{name} '{excerpt(word)}' is {label or 'unknown'}: {self.count[name, word]} rows"
            for name, words in self.reading.words.items()
            for word, label in words.items()
        ]


def require_no_problems(source: Source) -> pd.DataFrame:
    """The table of a labelled source; raises one FacecadeError that says all its problems."""
    if source.problems:
        raise problems(source.root, grouped(source.problems), problems_hint(source), count=len(source.problems))
    return source.table


def problems_hint(source: Source) -> str:
    """What to do about a source's problems."""
    maps = map_hint(source.problems)
    return (f"if that is meant: {maps}; or " if maps else "") + "fix the rows, or skip them with --skip-bad"


def require_files(source: Source) -> None:
    """Raises FacecadeError if more than a few rows have no file: a submission of one class looks like any other."""
    rows, missing = len(source.table), len(source.missing)
    if too_many_missing(missing, rows):
        raise FacecadeError(
            f"{missing} of {rows} images do not exist:\n  "
            + "\n  ".join(excerpt(each, 200) for each in source.missing[:5]),
            "fix the names, or predict the most frequent class for them: --allow-missing",
        )


def too_many_missing(missing: int, rows: int) -> bool:
    """Whether so many of some images are missing that something is wrong with all of them, as a wrong folder."""
    return missing == rows > 0 or missing > max(MAX_MISSING, MAX_MISSING_SHARE * rows)
