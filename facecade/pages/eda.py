"""The page on a data set, before anything is trained on it: what there is of everything, and what is wrong with it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facecade.faces.duplicates import NEAR, compare, copies
from facecade.faces.labels import N_CLASSES, class_name
from facecade.faces.survey import survey
from facecade.faces.table import age_cap, read_source
from facecade.pages import eda_sections as sections
from facecade.pages.eda_sections import Surveyed
from facecade.pages.page import write_page
from facecade.recipe import Face


def write_eda(data: Path, output: Path, face: Face, workers: int) -> dict[str, Any]:
    """Read every image once and write eda.html.

    Args:
        data: any layout that `faces.table.read_source` takes; what needs labels is left out where there are none.
        face: how faces are found and cut.

    Returns:
        What the page says, in numbers: see `summary`; `files`: the page.

    Raises:
        FacecadeError: `data` is no data set.
    """
    found = look_at(data, face, workers)
    said = summary(found)
    file = output / "eda.html"
    write_page(
        file,
        "What is in the data",
        f"{data}: {said['images']:,} images, layout “{found.source.layout}”",
        [
            sections.overview(found, said),
            sections.problems(found),
            sections.class_balance(found),
            sections.ages(found, said["ages"]),
            sections.files(found),
            sections.light(found),
            sections.faces(found),
            sections.duplicates(found, said["duplicates"]),
        ],
        "Nothing was trained for this page. It shows images of the people in the data: hand it on as you may hand those on.",
    )
    return {"data": str(data), **said, "files": [str(file)]}


def look_at(data: Path, face: Face, workers: int) -> Surveyed:
    """A data set's table, what was seen of its images, and everything bad with its reason."""
    source = read_source(data)
    table = source.table.drop_duplicates("path", ignore_index=True)  # a row that is there twice is no second image
    with _one_thread_each(face):
        seen, wrong = survey([source.root / path for path in table["path"]], face, workers)
    problems = [str(problem) for problem in source.problems] + [
        f"{path}: {reason}"
        for path, reason in zip(table["path"], wrong, strict=True)
        if reason and reason != "no such file"  # of that the table has told, with its row
    ]
    readable = np.array([not reason for reason in wrong], bool)
    table, seen = table[readable].reset_index(drop=True), seen[readable]
    person = table["person"].astype("category").cat.codes.to_numpy(np.int64)
    person[(table["person"] == "").to_numpy()] = -1
    _, first = np.unique(seen["content"], return_index=True)
    different = np.sort(first)  # files of the same bytes are told of as such
    alike = compare(seen["hashes"][different], person[different], workers)
    return Surveyed(source, table, seen, face, problems, person, different, alike, copies(seen["content"], person))


def summary(found: Surveyed) -> dict[str, Any]:
    """Counts: images that can be read, people, classes, ages, files, faces, duplicates; and the problems."""
    seen, label = found.seen, found.label
    return {
        "layout": found.source.layout,
        "images": len(found.source.table),
        "readable": len(seen),
        "people": found.people,
        "classes": [
            {
                "class": number,
                "name": class_name(number),
                "images": int((label == number).sum()),
                "people": int(found.table["person"][label == number].nunique()),
            }
            for number in range(N_CLASSES)
        ]
        if found.labelled
        else [],
        "ages": _ages(found),
        "sizes": dict(Counter(f"{w}×{h}" for w, h in zip(seen["width"], seen["height"], strict=True)).most_common()),
        "formats": dict(Counter(seen["format"].tolist()).most_common()),
        "modes": dict(Counter(seen["mode"].tolist()).most_common()),
        "turned": int(seen["turned"].sum()),
        "quality": {
            name: {f"{part} %": float(np.percentile(seen[name], part)) for part in sections.PARTS}
            for name in ("brightness", "sharpness")
        }
        if len(seen)
        else {},
        "faces": {
            "none": int((seen["faces"] == 0).sum()),
            "one": int((seen["faces"] == 1).sum()),
            "several": int((seen["faces"] > 1).sum()),
        }
        if found.face.detector == "mtcnn"
        else None,
        "duplicates": _duplicates(found),
        "problems": found.problems,
    }


def _ages(found: Surveyed) -> dict[str, Any] | None:
    """The people's ages, and how many are of the highest; None where no age is known."""
    age = found.person_ages()["age"].to_numpy(float)
    if not len(age):
        return None
    return {
        "people": len(age),
        "lowest": float(age.min()),
        "highest": float(age.max()),
        "at_highest": int((age == age.max()).sum()),
        "censored_at": age_cap(age),
    }


def _duplicates(found: Surveyed) -> dict[str, Any]:
    """Files of the same bytes, and pairs of different files that look the same, within a person and across people."""
    path = found.table["path"].to_numpy()
    same = found.copies
    return {
        "people_known": found.people > 0,
        "images_across": len({int(row) for rows in (*same.across, found.different[found.alike.near]) for row in rows}),
        "same_files_within": sum(map(len, same.within)),
        "same_files_across": sum(map(len, same.across)),
        "near_pairs_within": int(found.alike.within[: NEAR + 1].sum()),
        "near_pairs_across": int(found.alike.across[: NEAR + 1].sum()),
        "near_across": [
            {"images": [str(path[place]) for place in found.places(pair)], "bits": pair.bits}
            for pair in found.alike.closest
            if pair.bits <= NEAR
        ],
    }


@contextlib.contextmanager
def _one_thread_each(face: Face) -> Iterator[None]:
    """Where torch looks for faces, one thread for each of its callers: its small networks gain nothing by more."""
    if face.detector == "centre":
        yield
        return
    from facecade.training.device import threads

    with threads(1):
        yield
