"""Begin a run: read the data, find the faces, assign the folds, and save it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError, problems
from facecade.base.files import content_hash, require_links_inside
from facecade.base.progress import note
from facecade.faces.boxes import SIDES, box_columns, images_of
from facecade.faces.corrections import apply_corrections
from facecade.faces.coverage import coverage_notes
from facecade.faces.decode import DecodeError
from facecade.faces.duplicates import look_alike, near_duplicates_of
from facecade.faces.extra import ExtraData, build_extra
from facecade.faces.people import age_notes, contradicting_genders, people_of, recorded_ages
from facecade.faces.problems import grouped
from facecade.faces.pseudo import PseudoLabels, read_pseudo, without_near
from facecade.faces.reading import AS_WRITTEN, Reading
from facecade.faces.same_person import SamePerson, read_same_person
from facecade.faces.shared_images import LOOK_ALIKE, MAX_PAIRS, advice, equal_image_notes, shared_images
from facecade.faces.source import read_source, require_no_problems
from facecade.faces.split import STRATA, assign_folds, folds_hash, small_groups_notes, strata
from facecade.faces.store import Entry, FaceStore, hashes_of
from facecade.faces.table import age_cap
from facecade.recipe import Recipe
from facecade.recipe_file import parse
from facecade.runs.run import Run, cache_folder, require_unseen


@dataclass(frozen=True)
class DataOptions:
    """What belongs to the data of a new run.

    corrections: CSV files of label corrections (faces/corrections.py), applied in order. pseudo: a run that pseudo-labelled
    images to train on (inference/pseudo_label.py). extra: labelled images to train on that are never scored. skip_bad: note and
    skip bad rows and files, which otherwise are an error. same_person: CSVs of ids that are one person, or that only look alike
    (faces/same_person.py). reading: what words and folders of the data mean, and where the person is named.
    """

    corrections: Sequence[Path] = ()
    pseudo: Path | None = None
    extra: Path | None = None
    skip_bad: bool = False
    same_person: Sequence[Path] = ()
    reading: Reading = AS_WRITTEN


def begin_run(
    folder: Path,
    data: Path,
    tables: Mapping[str, Any],
    options: DataOptions = DataOptions(),
    workers: int = 2,
    dry: bool = False,
    shared_cache: bool = False,
) -> Run:
    """Read the data, find the faces, assign the folds, and save the run in a folder that this process holds
    (`runs.locks.held_to_begin`).

    Args:
        data: a folder or a manifest CSV.
        tables: the recipe's tables.
        dry: read and check only; find no faces and no near-duplicates, and write nothing.
        shared_cache: share the cache of face crops with the runs beside this one, in `cache` beside their folders.

    Raises:
        FacecadeError: bad rows or files; a person of two genders; people who share images; too few people.
    """
    require_links_inside(folder)
    recipe = parse(tables)
    pseudo_labels = read_pseudo(options.pseudo) if options.pseudo else None
    root, table = _read_labelled(data, options)
    extra_root, extra_table = _read_labelled(options.extra, options) if options.extra else (root, table[:0])
    people = read_same_person(options.same_person, [*table["person"], *extra_table["person"]])
    table, corrected = _correct(table, options.corrections, people)
    for line in people.notes:
        note(line)
    table, extra_table = people.join(table), people.join(extra_table)
    _require_one_gender(data, table)

    def with_content(rows: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, np.ndarray | None]:
        if dry:  # the content hash tells which fits are current; no face is needed
            return rows.assign(content=[content_hash(root / path) for path in rows["path"]]), None
        store = FaceStore(cache_folder(folder, shared_cache), recipe.face)
        return _with_content(rows, root, store, options.skip_bad, workers)

    table, hashes = with_content(table, root)
    hashes = _telling_hashes(table, hashes)
    _require_no_shared_images(data, table, hashes, people, workers)
    table = table.assign(fold=assign_folds(table, recipe.folds, recipe.seed))

    def near_scored(rows: pd.DataFrame, near_hashes: np.ndarray | None) -> set[str]:
        """Content of the near-duplicates of scored images."""
        if hashes is None or near_hashes is None:
            return set()
        return set(rows["content"][near_duplicates_of(near_hashes, hashes, workers)])

    extra_data: dict[str, ExtraData] = {}
    if options.extra:
        extra_table, extra_hashes = with_content(extra_table, extra_root)
        near = near_scored(extra_table, extra_hashes)
        extra_data["added"] = build_extra(
            extra_root,
            extra_table,
            table,
            recipe.folds,
            near,
            bool(table["middle"].any() or not extra_table["middle"].any()),
        )
    if pseudo_labels:
        _require_same_folds(pseudo_labels, table)
        images = pseudo_labels.table.drop_duplicates("content")
        extra_data["pseudo"] = without_near(pseudo_labels, near_scored(*with_content(images, pseudo_labels.root)))
    for line in _notes(table, recipe.folds):
        note(line)
    cap, same = _age_cap(table, recipe), list(people.rows)
    table = table.drop(columns=["where", "middle", *(set(SIDES) - set(box_columns(table)))])
    read_by = options.reading.options
    run = Run(folder, root, dict(tables), table, cap, shared_cache, extra_data, corrected, same, read_by)
    require_unseen(run)
    if not dry:
        run.save()
    note(_summary(run))
    for each in extra_data.values():
        note(each.record.text)
    return run


def _read_labelled(data: Path, options: DataOptions) -> tuple[Path, pd.DataFrame]:
    """Root and table of labelled data; raises FacecadeError for bad rows (unless they are skipped) or no labels."""
    source = read_source(data, options.reading)
    table = source.table
    for line in (*source.notes, *source.label_notes):
        note(line)
    if options.skip_bad:
        for line in grouped(source.problems, max_groups=None):
            note(f"skipped: {line}")
    elif source.layout != "evaluation":
        table = require_no_problems(source)
    if not source.labelled:
        raise FacecadeError(
            f"{data} holds no labels to train on",
            "training needs train.csv with images/, a manifest, or a folder for each class (docs/own-images.md)",
        )
    return source.root, table


def _correct(
    table: pd.DataFrame, sheets: Sequence[Path], people: SamePerson
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The table with the corrections of CSV files, and the corrections that changed it."""
    corrected: list[dict[str, str]] = []
    for sheet in sheets:
        table, applied, lines = apply_corrections(table, sheet, people)
        corrected += applied
        for line in lines:
            note(f"correction: {line}")
    return table, corrected


def _require_one_gender(data: Path, table: pd.DataFrame) -> None:
    """Raises FacecadeError for people who have two genders since they were joined or corrected."""
    wrong = contradicting_genders(table)
    if wrong:
        lines = list(dict.fromkeys(f"{table['where'][row]}: {message}" for row, message in wrong.items()))
        raise problems(
            data, lines, "correct a label (--corrections), or write no for these two (--same-person)", MAX_PAIRS
        )


def _telling_hashes(table: pd.DataFrame, hashes: np.ndarray | None) -> np.ndarray | None:
    """The hashes, if they tell people's images apart; None otherwise, with a note."""
    if hashes is not None and look_alike(hashes, pd.factorize(table["person"])[0]):
        note(LOOK_ALIKE)
        return None
    return hashes


def _require_no_shared_images(
    data: Path, table: pd.DataFrame, hashes: np.ndarray | None, people: SamePerson, workers: int
) -> None:
    """Raises FacecadeError for people who share an image, and are not said to be apart."""
    shared = shared_images(table, hashes, workers)
    undecided = people.undecided(shared)
    if undecided:
        raise problems(data, [str(each) for each in undecided], advice(), MAX_PAIRS)
    if shared:
        note(f"{len(shared)} pairs of people share images, and are kept apart as you said")


def _notes(table: pd.DataFrame, folds: int) -> list[str]:
    """What is unusual about the people and the labels."""
    return [
        *age_notes(table),
        *equal_image_notes(table),
        *coverage_notes(table),
        *small_groups_notes(table, folds),
    ]


def _require_same_folds(pseudo: PseudoLabels, table: pd.DataFrame) -> None:
    """Raises FacecadeError for pseudo-labels made on other folds, whose models trained on people that this run scores."""
    if pseudo.record.folds_hash != folds_hash(table):
        raise FacecadeError(
            f"the pseudo-labels of {pseudo.record.run} were made on other folds: its models trained on people that this run "
            "is scored on",
            "give the same data, folds and seed as that run has",
        )


def _with_content(
    table: pd.DataFrame, root: Path, store: FaceStore, skip_bad: bool, workers: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of readable images, with `content`, and the images' perceptual hashes."""
    entries = store.fill(images_of(root, table), workers)
    unreadable = [str(entry) for entry in entries if isinstance(entry, DecodeError)]
    if unreadable and not skip_bad:
        raise FacecadeError(
            f"{len(unreadable)} image(s) cannot be read:\n  " + "\n  ".join(unreadable),
            "fix or remove them, or give --skip-bad to go on without them",
        )
    for line in unreadable:
        note(f"skipped: {line}")
    readable = np.array([isinstance(entry, Entry) for entry in entries], bool)
    table = table[readable].reset_index(drop=True)
    read = [entry for entry in entries if isinstance(entry, Entry)]
    if store.face.detector == "mtcnn":
        given, without_face = sum(entry.given is not None for entry in read), sum(entry.box is None for entry in read)
        note(
            f"faces: found in {len(read) - given - without_face} of {len(read)} images; {without_face} use the centre crop"
            + (f"; of {given} the box is given" if given else "")
        )
    return table.assign(content=[entry.content for entry in read]), hashes_of(read)


def _age_cap(table: pd.DataFrame, recipe: Recipe) -> float | None:
    if recipe.age_cap == "none":
        return None
    if recipe.age_cap != "auto":
        return float(recipe.age_cap)
    cap = age_cap(recorded_ages(table))
    if cap is not None:
        note(f"ages: censored at {cap:.0f} (mass at the maximum); the age stages train on it as 'at least {cap:.0f}'")
    return cap


def _summary(run: Run) -> str:
    people = people_of(run.table)
    counts = strata(people).value_counts()
    known = {name: counts.get(name, 0) for name in STRATA}
    groups = ", ".join(
        f"{name}: {count}" for name, count in (known | counts[counts.index.difference(STRATA)].to_dict()).items()
    )
    return (
        f"data: {len(run.table)} images of {len(people)} people ({groups}), {run.recipe.folds} folds {run.folds_hash}"
    )
