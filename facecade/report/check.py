"""The contents of a dataset, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.artifact import write_csv
from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.base.progress import Bar
from facecade.base.threads import bounded_map
from facecade.faces.boxes import BoxedImage, ImageFile, path_of, require_overlap
from facecade.faces.coverage import coverage_notes
from facecade.faces.decode import DecodeError, decoded, opened, upright_size
from facecade.faces.duplicates import look_alike, perceptual_hashes
from facecade.faces.labels import N_CLASSES, class_name
from facecade.faces.people import age_notes, contradicting_genders, recorded_ages
from facecade.faces.problems import Problem, grouped
from facecade.faces.reading import AS_WRITTEN, Reading
from facecade.faces.same_person import SamePerson, read_same_person
from facecade.faces.shared_images import (
    LOOK_ALIKE,
    MAX_PAIRS,
    SharedImages,
    equal_image_notes,
    pairs_table,
    shared_images,
)
from facecade.faces.source import Source, read_source
from facecade.faces.table import age_cap, classes


@dataclass(frozen=True)
class _Image:
    """What is read of an image: height and width, content hash, perceptual hashes."""

    size: tuple[int, int]
    content: str
    hashes: np.ndarray


@dataclass
class Checked:
    """What was found in a dataset.

    table: the rows whose image is readable, with one id for each person. notes: what a user may not expect. pairs: people who
    share images. problems: bad rows and files, with their reason.
    """

    data: Path
    source: Source
    table: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    pairs: list[SharedImages] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What is bad: a line for each kind of problem, and for each pair of people."""
        return [*grouped(self.problems), *self._pair_lines()]

    def all_lines(self) -> list[str]:
        """What is bad: a line for each problem, and for each pair of people."""
        return [*map(str, self.problems), *self._pair_lines()]

    def _pair_lines(self) -> list[str]:
        more = len(self.pairs) - MAX_PAIRS
        return [
            *map(str, self.pairs[:MAX_PAIRS]),
            *([f"and {more} more pairs of people who share images"] if more > 0 else []),
        ]

    def classes(self) -> list[dict[str, Any]]:
        """The images and people of each class; none without labels."""
        label, person = classes(self.source.table), self.source.table["person"]
        if not (label >= 0).any():
            return []
        return [
            {
                "class": number,
                "name": class_name(number),
                "images": int((label == number).sum()),
                "people": int(person[label == number].nunique()),
            }
            for number in range(N_CLASSES)
        ]

    def json(self) -> dict[str, Any]:
        """Everything: counts, `classes`, `notes`, `pairs`, and `problems` with all of these."""
        table = self.source.table
        return {
            "data": str(self.data),
            "layout": self.source.layout,
            "labelled": self.source.labelled,
            "images": len(table),
            "people": int(table.loc[table["person"] != "", "person"].nunique()),
            "classes": self.classes(),
            "notes": self.notes,
            "passed_over": self.source.passed_over,
            "pairs": [asdict(pair) for pair in self.pairs],
            "problems": self.all_lines(),
        }


def check_source(
    data: Path,
    workers: int,
    same_person: Sequence[Path] = (),
    write_pairs: Path | None = None,
    reading: Reading = AS_WRITTEN,
) -> Checked:
    """Read every row and decode every file of a dataset; compare the images of different people.

    Args:
        same_person: CSVs of ids that are one person, or that only look alike (faces/same_person.py).
        write_pairs: a CSV to write, in the same form, of the people who share images.
        reading: what words and folders of the data mean.

    Raises:
        FacecadeError: `data` is not a dataset, `same_person` is wrong, or `write_pairs` exists.
    """
    if write_pairs and write_pairs.exists():
        raise FacecadeError(f"{write_pairs} exists already", "give --write-pairs another file")
    source = read_source(data, reading)
    people = read_same_person(same_person, source.table["person"].tolist())
    source = replace(source, table=people.join(source.table))
    table = source.table
    joined = [
        Problem(str(table["where"][row]), message, "a person of two genders")
        for row, message in contradicting_genders(table).items()
    ]
    images = _read_images(source.images, workers)
    unreadable = [
        Problem(path, image)
        for path, image in zip(table["path"], images, strict=True)
        if isinstance(image, str) and image != "no such file"  # read_source reports missing files, with their rows
    ]
    read = [image for image in images if isinstance(image, _Image)]
    readable = table[[isinstance(image, _Image) for image in images]]
    sizes = Counter(image.size for image in read).most_common(5)
    notes = [
        *source.notes,
        *source.label_notes,
        *(f"{height}×{width} pixels (height×width): {count}" for (height, width), count in sizes),
        *people.notes,
    ]
    pairs: list[SharedImages] = []
    if source.labelled:
        pairs, found = _compare_people(readable, read, people, workers)
        notes += [*_age_cap_notes(table), *age_notes(table), *found, *coverage_notes(table)]
    if write_pairs:
        write_csv(write_pairs, pairs_table(pairs))
    return Checked(data, source, readable, notes, pairs, [*source.problems, *dict.fromkeys(joined), *unreadable])


def _read_images(files: Sequence[ImageFile], workers: int) -> list[_Image | str]:
    """Each image, or why it cannot be decoded."""
    images = []
    with Bar("check", len(files), "images") as bar:
        for image in bounded_map(_read_image, files, workers):
            images.append(image)
            bar.advance()
    return images


def _read_image(file: ImageFile) -> _Image | str:
    path = path_of(file)
    try:
        with opened(path) as image:
            width, height = upright_size(image)
        if isinstance(file, BoxedImage):
            require_overlap(file, width, height)
        with decoded(path) as pixels:
            return _Image((height, width), content_hash(path), perceptual_hashes(pixels))
    except DecodeError as error:
        return error.reason


def _compare_people(
    table: pd.DataFrame, images: Sequence[_Image], people: SamePerson, workers: int
) -> tuple[list[SharedImages], list[str]]:
    """The people who share images and are not said to be apart, and notes; `images` are those of the table's rows."""
    table = table.assign(content=[image.content for image in images])
    hashes = np.array([image.hashes for image in images], np.uint64).reshape(-1, 2, 4)
    alike = look_alike(hashes, pd.factorize(table["person"])[0])
    shared = shared_images(table, None if alike else hashes, workers)
    return people.undecided(shared), [*equal_image_notes(table), *([LOOK_ALIKE] if alike else [])]


def _age_cap_notes(table: pd.DataFrame) -> list[str]:
    cap = age_cap(recorded_ages(table))
    if cap is None:
        return []
    return [f"ages look censored at {cap:.0f}: everyone of that age or over is recorded as {cap:.0f}"]
