"""The page that describes a dataset before training: class balance, ages, files, faces, duplicates and problems."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facecade.faces.boxes import images_of
from facecade.faces.duplicates import NEAR_DUPLICATE_BITS, find_exact_duplicates, find_near_duplicates
from facecade.faces.labels import N_CLASSES, class_name
from facecade.faces.reading import AS_WRITTEN, Reading
from facecade.faces.source import read_source
from facecade.faces.survey import survey
from facecade.faces.table import age_cap
from facecade.pages import eda_sections as sections
from facecade.pages.eda_sections import SurveyedDataset
from facecade.pages.page import write_page
from facecade.recipe import Face


def write_eda(data: Path, output: Path, face: Face, workers: int, reading: Reading = AS_WRITTEN) -> dict[str, Any]:
    """Read every image once and write eda.html.

    Args:
        data: any layout that `faces.source.read_source` reads; without labels, the sections that need them are left out.
        face: how faces are detected and cropped.
        reading: what words and folders of the data mean.

    Returns:
        The page's numbers, from `summary`; `data`, the folder; `files`, the page.

    Raises:
        FacecadeError: `data` is not a dataset.
    """
    dataset = survey_dataset(data, face, workers, reading)
    counts = summary(dataset)
    file = output / "eda.html"
    write_page(
        file,
        "What is in the data",
        f"{data}: {counts['images']:,} images, layout “{dataset.source.layout}”",
        [
            sections.overview(dataset, counts),
            sections.problems(dataset),
            sections.class_balance(dataset),
            sections.ages(dataset, counts["ages"]),
            sections.files(dataset),
            sections.brightness_and_blur(dataset),
            sections.faces(dataset),
            sections.duplicates(dataset, counts["duplicates"]),
        ],
        "Nothing was trained for this page. It shows images of the people in the data: share it only where you may share those.",
    )
    return {"data": str(data), **counts, "files": [str(file)]}


def survey_dataset(data: Path, face: Face, workers: int, reading: Reading = AS_WRITTEN) -> SurveyedDataset:
    """Read a dataset's table, measure its images, find duplicates, and collect every problem with its reason."""
    source = read_source(data, reading)
    table = source.table.drop_duplicates("path", ignore_index=True)  # a repeated row is not a second image
    with _one_torch_thread(face):
        measured, errors = survey(images_of(source.root, table), face, workers)
    problems = [str(problem) for problem in source.problems] + [
        f"{path}: {reason}"
        for path, reason in zip(table["path"], errors, strict=True)
        if reason and reason != "no such file"  # read_source reports these, with the row
    ]
    readable = np.array([not reason for reason in errors], bool)
    table, measured = table[readable].reset_index(drop=True), measured[readable]
    person = table["person"].astype("category").cat.codes.to_numpy(np.int64)
    person[(table["person"] == "").to_numpy()] = -1
    _, first = np.unique(measured["content"], return_index=True)
    distinct = np.sort(first)  # files with the same bytes are reported as exact duplicates
    near_duplicates = find_near_duplicates(measured["hashes"][distinct], person[distinct], workers)
    return SurveyedDataset(
        source,
        table,
        measured,
        face,
        problems,
        person,
        distinct,
        near_duplicates,
        find_exact_duplicates(measured["content"], person),
    )


def summary(dataset: SurveyedDataset) -> dict[str, Any]:
    """Counts of readable images, people, classes, ages, files, faces and duplicates; and the problems."""
    measured, label = dataset.measured, dataset.label
    return {
        "layout": dataset.source.layout,
        "images": len(dataset.source.table),
        "readable": len(measured),
        "people": dataset.person_count,
        "classes": [
            {
                "class": number,
                "name": class_name(number),
                "images": int((label == number).sum()),
                "people": int(dataset.table["person"][label == number].nunique()),
            }
            for number in range(N_CLASSES)
        ]
        if dataset.has_labels
        else [],
        "ages": _ages(dataset),
        "sizes": dict(
            Counter(f"{w}×{h}" for w, h in zip(measured["width"], measured["height"], strict=True)).most_common()
        ),
        "formats": dict(Counter(measured["format"].tolist()).most_common()),
        "modes": dict(Counter(measured["mode"].tolist()).most_common()),
        "turned": int(measured["turned"].sum()),
        "quality": {
            name: {f"{percent} %": float(np.percentile(measured[name], percent)) for percent in sections.PERCENTILES}
            for name in ("brightness", "sharpness")
        }
        if len(measured)
        else {},
        "faces": {
            "none": int((measured["faces"] == 0).sum()),
            "one": int((measured["faces"] == 1).sum()),
            "several": int((measured["faces"] > 1).sum()),
        }
        if dataset.face.detector == "mtcnn"
        else None,
        "duplicates": _duplicates(dataset),
        "problems": dataset.problems,
    }


def _ages(dataset: SurveyedDataset) -> dict[str, Any] | None:
    """The people's ages, and how many have the highest; None where no age is known."""
    age = dataset.person_ages()["age"].to_numpy(float)
    if not len(age):
        return None
    return {
        "people": len(age),
        "lowest": float(age.min()),
        "highest": float(age.max()),
        "at_highest": int((age == age.max()).sum()),
        "censored_at": age_cap(dataset.recorded_ages()),
    }


def _duplicates(dataset: SurveyedDataset) -> dict[str, Any]:
    """Files with the same bytes, and pairs of other files that look the same, within a person and across people."""
    path = dataset.table["path"].to_numpy()
    exact, near = dataset.exact_duplicates, dataset.near_duplicates
    return {
        "people_known": dataset.person_count > 0,
        "images_across": len({int(row) for rows in (*exact.across, dataset.distinct[near.near]) for row in rows}),
        "look_alike": dataset.look_alike,
        "same_files_within": sum(map(len, exact.within)),
        "same_files_across": sum(map(len, exact.across)),
        "near_pairs_within": int(near.within[: NEAR_DUPLICATE_BITS + 1].sum()),
        "near_pairs_across": int(near.across[: NEAR_DUPLICATE_BITS + 1].sum()),
        "near_across": [
            {"images": [str(path[row]) for row in dataset.rows(pair)], "bits": pair.bits}
            for pair in near.closest
            if pair.bits <= NEAR_DUPLICATE_BITS
        ],
    }


@contextlib.contextmanager
def _one_torch_thread(face: Face) -> Iterator[None]:
    """Limit torch to one thread per caller while it detects faces: its small networks are not faster with more."""
    if face.detector == "centre":
        yield
        return
    from facecade.training.device import torch_threads

    with torch_threads(1):
        yield
