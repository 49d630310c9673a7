"""A run's folder: its recipe, its table of images with folds, and which fits are current."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from facecade.base.artifact import Record, again, digest, read_record, valid_record, versions, write_csv, write_record
from facecade.base.errors import FacecadeError
from facecade.base.fields import Digest, PathText, Versions, one_of
from facecade.base.files import content_hash, require_links_inside
from facecade.base.lock import locked
from facecade.base.program import command, option
from facecade.base.released import seen
from facecade.base.seeding import derive
from facecade.faces.boxes import BoxedImage, box_columns, crop_key, images_of
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.decode import DecodeError
from facecade.faces.extra import TRAINED_ON, ExtraData, read_extra
from facecade.faces.pseudo import read_pseudo_labels
from facecade.faces.split import folds_hash
from facecade.faces.store import Entry, FaceStore
from facecade.faces.table import read_saved_table
from facecade.recipe import Recipe
from facecade.recipe_file import parse
from facecade.records import CombinerRecord, FitRecord

TRAINING_VERSION = 2
"""Increase when the same settings train other weights, so that earlier fits become stale."""

CORRECTIONS, SAME_PERSON = "corrections.csv", "same-person.csv"


EXTRA_DATA: dict[str, Callable[[Path], ExtraData]] = {"added": read_extra, "pseudo": read_pseudo_labels}
"""How each kind of extra data is read."""


class RunRecord(Record):
    """run.json: how a run began, and its recipe now.

    data: where the images are. shared_cache: whether the face crops are in `cache` beside the run's folder, which several
    runs share, and not in it. recipe: its tables as written. folds_hash, labels_hash: of table.csv. extra_data: kinds, each
    in a folder of its name. reading: options that say what words and folders of the data mean, as on a command line.
    """

    made_by: ClassVar[str] = "fit-stage all --data DATA --recipe RECIPE"

    data: PathText
    shared_cache: bool
    recipe: dict[str, Any]
    cap: float | None
    seed: int
    folds_hash: Digest
    labels_hash: Digest
    extra_data: list[Annotated[str, one_of(*EXTRA_DATA)]]
    reading: list[PathText] = Field(default_factory=list)
    versions: Versions

    @classmethod
    def remake(cls, path: Path) -> str:
        return cls.made_by + option("--artifacts", path.parent, "artifacts")


State = Literal["fitted", "stale", "damaged", "begun", "missing"]


@dataclass(frozen=True)
class Run:
    """A run as saved in its folder.

    table: one row per image: `path, id, person, mask, gender, age, fold, content`, and the sides of boxes that came with the
    data. tables: the recipe as written. cap: the
    age at which ages are censored ("at least"), or None. shared_cache: whether runs beside this one share its face crops.
    extra_data: images to train on that are never scored, by kind. corrections: `id, field, value` of the labels that were
    changed, and same_person: `person, other, same` of the ids that were joined or kept apart, before the table was written. reading: the options that say what words and
    folders of the data mean.
    """

    folder: Path
    root: Path
    tables: dict[str, Any]
    table: pd.DataFrame
    cap: float | None
    shared_cache: bool = False
    extra_data: Mapping[str, ExtraData] = field(default_factory=dict)
    corrections: Sequence[Mapping[str, str]] = ()
    same_person: Sequence[Mapping[str, str]] = ()
    reading: Sequence[str] = ()

    @cached_property
    def recipe(self) -> Recipe:
        return parse(self.tables, f"the recipe in {self.folder / 'run.json'}")

    @cached_property
    def folds_hash(self) -> str:
        return folds_hash(self.table)

    @cached_property
    def labels_hash(self) -> str:
        columns = ["path", "content", "person", "mask", "gender", "age", *box_columns(self.table)]
        return digest(self.table[columns].to_numpy().tolist())

    def signature(self, stage: str, fold: int = 0) -> str:
        """A hash of everything that a stage's fit depends on; when it changes, the fit is stale. The same for all folds."""
        settings = self.recipe.stages[stage]
        if fold == self.recipe.folds:
            return digest([self.signature(stage), self.recipe.ensemble])
        return digest(
            {
                "learning": TRAINING_VERSION,
                "stage": stage,
                "settings": settings.model_dump(),
                "start": self.signature(settings.start_stage) if settings.start_stage else None,
                "augment": self.recipe.augment.get(settings.augment),
                "face": self.recipe.face.model_dump(),
                "anchors": self.recipe.combiner.anchors,
                "seed": self.recipe.seed,
                "cap": self.cap,
                "labels": self.labels_hash,
                "folds": self.folds_hash,
                **{kind: extra_data.hash for kind, extra_data in self.extra_data.items()},
            }
        )

    @cached_property
    def trained_on(self) -> dict[str, str]:
        """Flags of the images that the run trained on, by content hash."""
        flags = dict.fromkeys(self.table["content"], TRAINED_ON)
        for extra_data in self.extra_data.values():
            flags |= dict.fromkeys(extra_data.table["content"], extra_data.record.flag)
        return flags

    def command(self, words: str) -> str:
        """A command for this run, as typed on the command line."""
        return command(words) + option("--artifacts", self.folder, "artifacts")

    def fold_folder(self, stage: str, fold: int) -> Path:
        """Folder of a fold's fit, or of the fit on all people."""
        return self.folder / "stages" / stage / self.recipe.fit_name(fold).replace(" ", "")

    def fit_record(self, stage: str, fold: int) -> FitRecord | None:
        """The record of a fit; None where it is missing or damaged."""
        return valid_record(self.fold_folder(stage, fold) / "meta.json", FitRecord)

    def state(self, stage: str, fold: int) -> State:
        """`fitted`, `stale` (fitted with other settings, data or folds), `damaged` (its record), `begun` or `missing`."""
        folder, record = self.fold_folder(stage, fold), self.fit_record(stage, fold)
        if record:
            current = (record.stage, record.fold, record.signature) == (stage, fold, self.signature(stage, fold))
            return "fitted" if current and not self._weights_changed(stage, fold) else "stale"
        if (folder / "meta.json").exists():
            return "damaged"
        return "begun" if list(folder.glob("checkpoint-*.safetensors")) else "missing"

    @cached_property
    def _weights_content(self) -> dict[Path, str]:
        """Content hashes of the weight files that stages start from, read once for all folds."""
        files = {stage.weights_file for stage in self.recipe.stages.values() if stage.weights_file}
        return {file: content_hash(file) for file in files}

    def _weights_changed(self, stage: str, fold: int) -> bool:
        """Whether the weight file that a fit started from (directly, or through its start stage) has changed since. A file
        that no longer exists counts as unchanged."""
        settings, record = self.recipe.stages[stage], self.fit_record(stage, fold)
        if settings.start_stage:
            return self._weights_changed(settings.start_stage, fold)
        current = self._weights_content.get(settings.weights_file, "") if settings.weights_file else ""
        recorded = record.weights_content if record else None
        return bool(current and recorded) and current != recorded

    @property
    def fits_digest(self) -> str:
        """A hash of the outputs of all fits; it changes when one is fitted again."""
        records = [self.fit_record(stage, fold) for stage in self.recipe.stages for fold in self.recipe.fits]
        outputs = [record.outputs if record else None for record in records]
        return digest([[self.signature(stage) for stage in self.recipe.stages], outputs])

    @property
    def combiner(self) -> Path:
        """Folder of the combiner."""
        return self.folder / "combiner"

    def combiner_record(self) -> CombinerRecord | None:
        """The record of the combiner; None where it is missing or damaged."""
        return valid_record(self.combiner / "meta.json", CombinerRecord)

    def combiner_state(self) -> State:
        """`fitted`, `stale`, `damaged` (its record) or `missing`."""
        record = self.combiner_record()
        if not record:
            return "damaged" if (self.combiner / "meta.json").exists() else "missing"
        return "fitted" if (record.fits, record.recipe) == (self.fits_digest, self.recipe.combiner) else "stale"

    def anchors(self) -> np.ndarray:
        """Rows of the anchors, which every fold's model embeds, int64 (A,), sorted."""
        generator = np.random.default_rng(derive(self.recipe.seed, "anchors"))
        count = min(self.recipe.combiner.anchors, len(self.table))
        return np.sort(generator.choice(len(self.table), count, replace=False))

    def faces(self, workers: int, stored: bool = False) -> tuple[FaceStore, np.ndarray]:
        """The store with every row's crop, and each row's index in it, int64 (N,).

        Args:
            stored: read no image if all crops are in the store: another process has just checked the images.
        """
        store = self.store()
        return store, _crop_rows(store, self.root, self.table, workers, stored)

    def extra_rows(self, store: FaceStore, workers: int, stored: bool = False) -> pd.DataFrame | None:
        """Rows of the extra data, with the index `crop` of each in the store; None where the run has none. stored: as of `faces`."""
        parts = [
            each.table.assign(crop=_crop_rows(store, each.root, each.table, workers, stored))
            for each in self.extra_data.values()
        ]
        return pd.concat(parts, ignore_index=True) if parts else None

    def store(self) -> FaceStore:
        """The cache of face crops."""
        return FaceStore(cache_folder(self.folder, self.shared_cache), self.recipe.face)

    @property
    def corrections_file(self) -> Path:
        """Where the corrections are saved, if there are any."""
        return self.folder / CORRECTIONS

    @property
    def same_person_file(self) -> Path:
        """Where `same_person` is saved, if there are any."""
        return self.folder / SAME_PERSON

    def save(self) -> None:
        """Write table.csv, corrections, joined people and extra data, and run.json last; this process must hold the folder."""
        write_csv(self.folder / "table.csv", self.table)
        for file, rows in ((self.corrections_file, self.corrections), (self.same_person_file, self.same_person)):
            if rows:
                write_csv(file, pd.DataFrame(rows))
            else:
                file.unlink(missing_ok=True)  # of an earlier run in this folder
        for kind, extra_data in self.extra_data.items():
            extra_data.save(self.folder / "extra-data" / kind)
        record = RunRecord(
            data=str(self.root.resolve()),
            shared_cache=self.shared_cache,
            recipe=self.tables,
            cap=self.cap,
            seed=self.recipe.seed,
            folds_hash=self.folds_hash,
            labels_hash=self.labels_hash,
            extra_data=list(self.extra_data),
            reading=list(self.reading),
            versions=versions(),
        )
        write_record(self.folder / "run.json", record)


def cache_folder(run: Path, shared: bool) -> Path:
    """Folder of the face crops of a run: in its folder, or beside it. No other, because it is written to."""
    return (run.parent if shared else run) / "cache"


def _crop_rows(store: FaceStore, root: Path, table: pd.DataFrame, workers: int, stored: bool) -> np.ndarray:
    """The store's index of each row's crop, int64 (N,).

    Args:
        stored: read no image if all crops are in the store.

    Raises:
        FacecadeError: the folder does not exist, or images have changed since the run began.
    """
    images = images_of(root, table)
    if stored:
        keys = [
            crop_key(content, image.box if isinstance(image, BoxedImage) else None)
            for content, image in zip(table["content"], images, strict=True)
        ]
        rows = store.rows_of(keys)
        if (rows >= 0).all():
            return rows
    if not root.is_dir():
        raise FacecadeError(f"{root} does not exist, where the run's images were", "give their new folder: --data DATA")
    entries = store.fill(images, workers)
    unreadable = [str(entry) for entry in entries if isinstance(entry, DecodeError)]
    changed = [
        path
        for path, content, entry in zip(table["path"], table["content"], entries, strict=True)
        if isinstance(entry, Entry) and entry.content != content
    ]
    if unreadable or changed:
        lines = unreadable[:20] + [f"{path}: changed since the run began" for path in changed[:20]]
        raise FacecadeError(
            f"{len(unreadable) + len(changed)} image(s) changed or vanished:\n  " + "\n  ".join(lines),
            "restore them; or give --data again, then what depends on them is fitted again",
        )
    return np.array([entry.row for entry in entries if isinstance(entry, Entry)])


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / "run.json").exists()


def open_run(folder: Path) -> Run:
    """Open a run; raises FacecadeError where there is none."""
    if not is_run(folder):
        raise FacecadeError(
            f"{folder} holds no run",
            f"begin one: {command('fit-stage all --data DATA' + option('--artifacts', folder, 'artifacts'))}; or name the folder of another",
        )
    require_links_inside(folder)
    record = read_record(folder / "run.json", RunRecord)
    table = read_saved_table(folder / "table.csv")
    extra_data = {kind: EXTRA_DATA[kind](folder / "extra-data" / kind) for kind in record.extra_data}
    given = (
        _read_rows(folder / CORRECTIONS, ["id", "field", "value"]),
        _read_rows(folder / SAME_PERSON, ["person", "other", "same"]),
    )
    run = Run(
        folder,
        Path(record.data),
        record.recipe,
        table,
        record.cap,
        record.shared_cache,
        extra_data,
        *given,
        record.reading,
    )
    folds = set(range(run.recipe.folds))
    if (run.folds_hash, run.labels_hash, set(table["fold"])) != (record.folds_hash, record.labels_hash, folds):
        raise FacecadeError(
            f"{folder / 'table.csv'} is not the table of {folder / 'run.json'}",
            again(RunRecord.remake(folder / "run.json")),
        )
    return run


def require_unseen(run: Run) -> None:
    """Raises FacecadeError if a stage starts from the released cascade, and that was trained on images of the run: no person whom a fold
    holds out would be new to it."""
    starts = [name for name, stage in run.recipe.stages.items() if stage.weights == "released"]
    known = int(run.table["content"].isin(seen()).sum()) if starts else 0
    if known:
        raise FacecadeError(
            f"the released cascade, from which {starts[0]} starts, was trained on {known:,} of these images: every score would be too high",
            "--weights none | hub | package | FILE",
        )


def with_images_in(run: Run, data: Path | None) -> Run:
    """The run with its images in another folder, or in that of a manifest; the same run for None. Nothing is saved."""
    if data is None:
        return run
    return replace(run, root=data.parent if data.is_file() else data)


def _read_rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV of the run; none where it does not exist."""
    return [row.cells for row in read_csv_rows(file, columns)] if file.exists() else []


def change_recipe(run: Run, tables: Mapping[str, Any], dry: bool = False) -> Run:
    """The run with another recipe, checked and (unless `dry`) saved.

    Raises:
        FacecadeError: the change would redraw the folds, which all stages share.
    """
    new = parse(tables)
    old = run.recipe
    if (new.folds, new.age_cap, new.seed) != (old.folds, old.age_cap, old.seed):
        raise FacecadeError(
            "folds, seed and age_cap are settled once for a run", "give --data as well to begin the run anew"
        )
    changed = replace(run, tables=dict(tables))
    require_unseen(changed)
    if not dry:
        with locked(run.folder):
            changed.save()
    return changed
