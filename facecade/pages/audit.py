"""Labels that are probably wrong, for review: a page of face crops, the whole ranking as CSV, and proposed corrections to edit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from facecade.base.artifact import write_csv
from facecade.combiner.audit import MIN_SCORE, Finding, audit, verdict
from facecade.faces.labels import MASKS
from facecade.faces.table import labelled_rows
from facecade.html import elements
from facecade.pages.page import Section, write_page
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run

KIND_DESCRIPTIONS = {
    "gender": "people of the other gender",
    "age": "people of another age",
    "swap": "people with two files swapped",
    "mask": "images of another mask",
}
"""Kinds of label errors, in words."""

MAX_IMAGES_PER_PERSON = 8
"""Images of a person on the page."""

FOUR_PER_ROW_STYLE = Markup(
    "<style>.gallery { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }"
    " .gallery .pictures { flex-wrap: wrap; } .gallery img { flex: 0 0 25%; width: 25%; }</style>"
)
"""CSS that puts four images side by side in each figure of this page."""


def write_audit(
    run: Run, output: Path, max_findings: int, confidence: float, workers: int
) -> tuple[list[Finding], list[Path]]:
    """Write audit.html, audit.csv and corrections.csv. A corrections.csv with other content, which may have been edited, is kept:
    the new one becomes corrections-2.csv, and so on.

    Args:
        max_findings: findings shown with their images.
        confidence: lowest probability of an error at which a correction is proposed.

    Returns:
        The findings, the most probable first, and the files.

    Raises:
        FacecadeError: the run is not fitted, or its images have changed.
    """
    found, judged = audit(run.table, out_of_fold_outputs(run), run.cap), run.table.iloc[labelled_rows(run.table)]
    store, store_rows = run.faces(workers)
    crops = store.crops()
    shown = [(finding, _rows_to_show(run.table, finding)) for finding in found[:max_findings]]
    proposed = corrections(found, confidence)
    files = [output / "audit.html", output / "audit.csv", _unused_path(output / "corrections.csv", proposed)]
    write_page(
        files[0],
        "Which labels are probably wrong",
        f"{date.today():%Y-%m-%d}: {len(judged):,} images of {judged['person'].nunique():,} people, judged by models that held them out",
        [
            _counts(found, confidence),
            _gallery(run.table, [(finding, rows, crops[store_rows[rows]]) for finding, rows in shown], len(found)),
        ],
        f"Corrections from probability {confidence:g}: {files[2].name}. This page shows images of the people in the data: share it only where you may share those.",
    )
    write_csv(files[1], ranking(found, run.table))
    write_csv(files[2], proposed)
    return found, files


def ranking(found: Sequence[Finding], table: pd.DataFrame) -> pd.DataFrame:
    """Every finding with its rank and its images."""
    paths = table["path"].to_numpy()
    rows = [
        (
            rank,
            finding.kind,
            finding.id,
            ";".join(paths[list(finding.rows)]),
            finding.recorded,
            finding.suggested,
            f"{finding.score:.4f}",
            finding.reason,
        )
        for rank, finding in enumerate(found, 1)
    ]
    return pd.DataFrame(rows, columns=["rank", "kind", "id", "paths", "recorded", "suggested", "probability", "reason"])


def corrections(found: Sequence[Finding], confidence: float) -> pd.DataFrame:
    """The findings that are probable enough, one per label, as `fit-stage --corrections` reads them, with the reasons."""
    corrected: set[tuple[str, int]] = set()
    rows = []
    for finding in found:
        labels = {(finding.field, row) for row in finding.rows}
        if finding.score >= confidence and not labels & corrected:
            corrected |= labels
            rows.append(
                (finding.id, finding.field, finding.value, finding.recorded, f"{finding.score:.4f}", finding.reason)
            )
    return pd.DataFrame(rows, columns=["id", "field", "value", "recorded", "probability", "reason"])


def _unused_path(path: Path, proposed: pd.DataFrame) -> Path:
    """The first of corrections.csv, corrections-2.csv, … that does not exist yet, or has exactly the content to be written."""
    text = proposed.to_csv(index=False, lineterminator="\n")
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(file for file in chain([path], numbered) if not file.exists() or file.read_text() == text)


def _rows_to_show(table: pd.DataFrame, finding: Finding) -> np.ndarray:
    """Rows of the finding's person: the finding's own images first, then those whose mask covers the least."""
    rows = np.flatnonzero(table["person"].to_numpy() == finding.person)
    in_finding = np.isin(rows, finding.rows)
    covers = table["mask"].iloc[rows].map({mask: index for index, mask in enumerate(MASKS)})
    mask_order = -covers.fillna(-1).to_numpy()
    return rows[np.lexsort((rows, mask_order, ~in_finding))][:MAX_IMAGES_PER_PERSON]


def _counts(found: Sequence[Finding], confidence: float) -> Section:
    """The number of findings of each kind."""
    rows = []
    for kind, words in KIND_DESCRIPTIONS.items():
        scores = np.array([finding.score for finding in found if finding.kind == kind])
        rows.append([words, f"{scores.sum():.0f}", str((scores >= confidence).sum()), str(len(scores))])
    about = (
        "Each label is judged by models, a calibration and error rates that were fitted without the label and without the person (confident learning, "
        "Northcutt et al., arXiv:1911.00068; ages: the distance from the predicted age, compared with the errors on correct ages). The probability is "
        "that the label is wrong. People who look unlike their correct label are listed too, so a person must review the list."
    )
    head = ["kind of error", "expected in total", f"probability {confidence:g} or more", f"{MIN_SCORE:g} or more"]
    return Section(
        "Number of findings", [elements.text(verdict(found)), elements.text(about), elements.table(head, rows)]
    )


def _gallery(table: pd.DataFrame, shown: Sequence[tuple[Finding, np.ndarray, np.ndarray]], total: int) -> Section:
    """Findings with the crops (k, h, w, 3) of their rows (k,)."""
    paths, figures = table["path"].to_numpy(), []
    for rank, (finding, rows, crops) in enumerate(shown, 1):
        lines = [
            f"{rank}. {finding.kind}: {finding.score:.2f}",
            "/".join(Path(finding.id).parts[-2:]),
            f"recorded: {finding.recorded}; suggested: {finding.suggested}",
            finding.reason,
        ]
        figures.append(
            ([elements.picture(crop, str(paths[row])) for row, crop in zip(rows, crops, strict=True)], lines)
        )
    about = f"The first {len(shown)} of {total}. The images that a finding is about come first; the others show the same person."
    return Section(
        "The most probable first",
        [elements.text(about, faint=True), FOUR_PER_ROW_STYLE, elements.gallery(figures)] if figures else [],
    )
