"""Labels that are probably wrong, to be looked at and corrected: a sheet of thumbnails, the whole ranking, and corrections to edit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from facecade.base.artifact import write_csv
from facecade.combiner.audit import LEAST, Finding, audit
from facecade.faces.labels import MASKS
from facecade.pages import page
from facecade.pages.page import Section, write_page
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run

KINDS = {
    "gender": "people of the other gender",
    "age": "people of another age",
    "swap": "people with two files swapped",
    "mask": "images of another mask",
}
"""What can be wrong, in words."""

PICTURES = 8
"""Images of a person that are shown at most."""

WIDE = Markup(
    "<style>.gallery { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }"
    " .gallery .pictures { flex-wrap: wrap; } .gallery img { flex: 0 0 25%; width: 25%; }</style>"
)
"""Four pictures side by side in each figure of this page."""


def write_audit(run: Run, output: Path, most: int, confidence: float, workers: int) -> tuple[list[Finding], list[Path]]:
    """Write audit.html, audit.csv and corrections.csv; beside a corrections.csv that says something else, which somebody may have
    edited, corrections-2.csv and so on.

    Args:
        most: findings that are shown with their images.
        confidence: least probability of an error that is put down as a correction.

    Returns:
        The findings, the most probable first, and the files.

    Raises:
        FacecadeError: the run is not fitted, or its images have changed.
    """
    found = audit(run.table, out_of_fold_outputs(run), run.cap)
    store, places = run.faces(workers)
    crops = store.crops()
    shown = [(one, _shown_first(run.table, one)) for one in found[:most]]
    proposed = corrections(found, confidence)
    files = [output / "audit.html", output / "audit.csv", _unedited(output / "corrections.csv", proposed)]
    write_page(
        files[0],
        "Which labels are probably wrong",
        f"{run.folder}: {len(run.table):,} images of {run.table['person'].nunique():,} people, by models that never saw them",
        [
            _counts(found, confidence),
            _sheet(run.table, [(one, rows, crops[places[rows]]) for one, rows in shown], len(found)),
        ],
        f"Corrections from probability {confidence:g}: {files[2].name}. It shows images of the people in the data: hand it on as you may hand those on.",
    )
    write_csv(files[1], ranking(found, run.table))
    write_csv(files[2], proposed)
    return found, files


def ranking(found: Sequence[Finding], table: pd.DataFrame) -> pd.DataFrame:
    """Every finding with its place in the list and its images."""
    paths = table["path"].to_numpy()
    rows = [
        (
            place,
            one.kind,
            one.id,
            ";".join(paths[list(one.rows)]),
            one.recorded,
            one.suggested,
            f"{one.score:.4f}",
            one.reason,
        )
        for place, one in enumerate(found, 1)
    ]
    return pd.DataFrame(rows, columns=["rank", "kind", "id", "paths", "recorded", "suggested", "probability", "reason"])


def corrections(found: Sequence[Finding], confidence: float) -> pd.DataFrame:
    """What `fit-stage --corrections` takes, of findings that are probable enough, one for each label; beside it why."""
    settled: set[tuple[str, int]] = set()
    rows = []
    for one in found:
        labels = {(one.field, row) for row in one.rows}
        if one.score >= confidence and not labels & settled:
            settled |= labels
            rows.append((one.id, one.field, one.value, one.recorded, f"{one.score:.4f}", one.reason))
    return pd.DataFrame(rows, columns=["id", "field", "value", "recorded", "probability", "reason"])


def _unedited(path: Path, proposed: pd.DataFrame) -> Path:
    """The first of corrections.csv, corrections-2.csv, … that is not there yet, or says just what is to be written."""
    text = proposed.to_csv(index=False, lineterminator="\n")
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(place for place in chain([path], others) if not place.exists() or place.read_text() == text)


def _shown_first(table: pd.DataFrame, one: Finding) -> np.ndarray:
    """Rows of the person, those in question first where they are single images, then those that show the most of a face."""
    rows = np.flatnonzero(table["person"].to_numpy() == one.person)
    asked = np.isin(rows, one.rows)
    covered = -table["mask"].iloc[rows].map(MASKS.index).to_numpy()
    return rows[np.lexsort((rows, covered, ~asked))][:PICTURES]


def _counts(found: Sequence[Finding], confidence: float) -> Section:
    """How many of each kind there are."""
    rows = []
    for kind, words in KINDS.items():
        scores = np.array([one.score for one in found if one.kind == kind])
        rows.append([words, f"{scores.sum():.0f}", str((scores >= confidence).sum()), str(len(scores))])
    about = (
        "Each label is judged by models, a calibration and error rates that knew neither it nor the person (confident learning, Northcutt et al., "
        "arXiv:1911.00068; ages: the distance from what the regressors say, against how far right ages lie). The probability is of the label being "
        "wrong, by what the images look like to the networks: who looks unlike the label is listed too. A person has to say which it is."
    )
    head = ["what may be wrong", "expected in all", f"of probability {confidence:g} or more", f"of {LEAST:g} or more"]
    return Section("How many", [page.text(about), page.table(head, rows)])


def _sheet(table: pd.DataFrame, shown: Sequence[tuple[Finding, np.ndarray, np.ndarray]], of: int) -> Section:
    """Findings with the crops (k, h, w, 3) of their rows (k,)."""
    paths, figures = table["path"].to_numpy(), []
    for place, (one, rows, crops) in enumerate(shown, 1):
        lines = [
            f"{place}. {one.kind}: {one.score:.2f}",
            "/".join(Path(one.id).parts[-2:]),
            f"recorded: {one.recorded}; suggested: {one.suggested}",
            one.reason,
        ]
        figures.append(([page.picture(crop, str(paths[row])) for row, crop in zip(rows, crops, strict=True)], lines))
    about = f"The first {len(shown)} of {of}. Where an image or two are in question, they come first; the others show the same person."
    return Section(
        "The most probable first", [page.text(about, faint=True), WIDE, page.gallery(figures)] if figures else []
    )
