"""Beginning a run: read the data, find the faces, draw the folds, and record it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.base.progress import note
from facecade.faces.corrections import correct
from facecade.faces.decode import DecodeError
from facecade.faces.extra import ExtraData, added
from facecade.faces.labels import BANDS, GENDERS, band_of
from facecade.faces.pseudo import read_pseudo
from facecade.faces.split import assign_folds, folds_hash
from facecade.faces.store import Entry, FaceStore
from facecade.faces.table import age_cap, read_source, require_sound
from facecade.recipe import Recipe
from facecade.recipe_file import parse
from facecade.runs.run import Run


def begin_run(
    folder: Path,
    data: Path,
    tables: Mapping[str, Any],
    corrections: Sequence[Path] = (),
    skip_bad: bool = False,
    workers: int = 2,
    dry: bool = False,
    cache: Path | None = None,
    pseudo: Path | None = None,
    extra: Path | None = None,
) -> Run:
    """Read the data, find the faces, draw the folds, and record it all.

    Args:
        tables: the recipe's.
        corrections: sheets of label corrections (faces/corrections.py), one after the other.
        skip_bad: go on without bad rows and files, naming them, where otherwise they are an error.
        dry: read and check, but find no faces and write nothing.
        cache: folder of face crops to share with other runs; one of the run's own by default.
        pseudo: a run that labelled further images to learn from (`pipeline.pseudo_label`).
        extra: labelled data to learn from that are not scored.
    """
    checked, cache = parse(tables), cache or folder / "cache"
    pseudo_labels = read_pseudo(pseudo) if pseudo else None
    root, table = _labelled(data, skip_bad)
    beside = _labelled(extra, skip_bad) if extra else None
    corrected: list[dict[str, str]] = []
    for sheet in corrections:
        table, taken, said = correct(table, sheet)
        corrected += taken
        for line in said:
            note(f"correction: {line}")

    def attention_overlays(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
        if dry:  # what is fitted already is known by content, without finding a face
            return rows.assign(content=[content_hash(root / path) for path in rows["path"]])
        return _with_content(rows, root, FaceStore(cache, checked.face), skip_bad, workers)

    table = attention_overlays(table, root)
    table = table.assign(fold=assign_folds(table, checked.folds, checked.seed))
    extra_data: dict[str, ExtraData] = {}
    if beside:
        extra_root, more = beside
        extra_data["added"] = added(extra_root, attention_overlays(more, extra_root), table, checked.folds)
    if pseudo_labels:
        _require_same_folds(pseudo_labels, table)
        extra_data["pseudo"] = pseudo_labels
    run = Run(folder, root, dict(tables), table, _cap(table, checked), cache, extra_data, corrected)
    if not dry:
        run.save()
    note(_summary(run))
    for each in extra_data.values():
        note(each.record["text"])
    return run


def _labelled(data: Path, skip_bad: bool) -> tuple[Path, pd.DataFrame]:
    """Root and sample table of labelled data; raises FacecadeError for bad rows (unless `skip_bad`) or no labels."""
    source = read_source(data)
    table = source.table
    if skip_bad:
        for problem in source.problems:
            note(f"skipped: {problem}")
    elif source.layout in ("competition", "manifest"):
        table = require_sound(source)
    if not source.labelled:
        raise FacecadeError(
            f"{data} holds no labels to learn from", "training needs train.csv with images/, or a manifest CSV"
        )
    return source.root, table


def _require_same_folds(pseudo: ExtraData, table: pd.DataFrame) -> None:
    """Raises FacecadeError for pseudo-labels made on other folds, whose models knew people that this run scores."""
    if pseudo.record["folds_hash"] != folds_hash(table):
        raise FacecadeError(
            f"the pseudo-labels of {pseudo.record['run']} were made on other folds: its models saw people whom this run would be scored on",
            "give the same data, folds and seed as that run has",
        )


def _with_content(table: pd.DataFrame, root: Path, store: FaceStore, skip_bad: bool, workers: int) -> pd.DataFrame:
    entries = store.fill([root / path for path in table["path"]], workers)
    wrong = [str(entry) for entry in entries if isinstance(entry, DecodeError)]
    if wrong and not skip_bad:
        raise FacecadeError(
            f"{len(wrong)} image(s) cannot be read:\n  " + "\n  ".join(wrong),
            "mend or remove them, or give --skip-bad to go on without them",
        )
    for line in wrong:
        note(f"skipped: {line}")
    keep = np.array([isinstance(entry, Entry) for entry in entries], bool)
    table = table[keep].reset_index(drop=True)
    found = [entry for entry in entries if isinstance(entry, Entry)]
    if store.face.detector == "mtcnn":
        none = sum(entry.box is None for entry in found)
        note(f"faces: found in {len(found) - none} of {len(found)} images; {none} use the centre crop")
    return table.assign(content=[entry.content for entry in found])


def _cap(table: pd.DataFrame, recipe: Recipe) -> float | None:
    if recipe.age_cap == "none":
        return None
    if recipe.age_cap != "auto":
        return float(recipe.age_cap)
    cap = age_cap(table.groupby("person")["age"].first().to_numpy(float))
    if cap is not None:
        note(f"ages: censored at {cap:.0f} (mass at the maximum); the age stages learn it as 'at least {cap:.0f}'")
    return cap


def _summary(run: Run) -> str:
    people = run.table.groupby("person").first()
    groups = [
        f"{gender} {band}: {n}"
        for gender in GENDERS
        for band, n in zip(BANDS, _band_counts(people[people["gender"] == gender]["age"]), strict=True)
    ]
    return (
        f"data: {len(run.table)} images of {len(people)} people ({', '.join(groups)}), "
        f"{run.recipe.folds} folds {run.folds_hash}"
    )


def _band_counts(age: pd.Series) -> np.ndarray:
    return np.bincount(band_of(age), minlength=len(BANDS))
