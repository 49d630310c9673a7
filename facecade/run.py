"""A run's folder: its recipe, its sample table with folds, and which fits in it are current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.artifact import digest, read_json, versions, write_csv, write_json
from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.base.progress import note
from facecade.base.seeding import derive
from facecade.faces.corrections import correct
from facecade.faces.decode import DecodeError
from facecade.faces.further import TRAINED_ON, Further, added, read_further
from facecade.faces.labels import BANDS, GENDERS, band_of
from facecade.faces.pseudo import read_pseudo
from facecade.faces.sheet import read_sheet
from facecade.faces.split import assign_folds, folds_hash
from facecade.faces.store import Entry, FaceStore
from facecade.faces.table import age_cap, read_kept, read_source, require_sound
from facecade.recipe import Recipe, parse

LEARNING = 2
"""Raise when the same settings come to train other weights, so that fits of before are known as stale."""

CORRECTIONS = "corrections.csv"


@dataclass(frozen=True)
class Run:
    """A run as its folder records it.

    table: one row a photograph: `path, id, person, mask, gender, age, fold, content`. tables: the
    recipe as written. cap: the age from which the data say only "at least", or None. cache: folder of face
    crops, which runs may share. further: photographs to learn from that are not scored, by kind. corrections: `id, field, value` of the
    labels that were changed before the table was written.
    """

    folder: Path
    root: Path
    tables: dict[str, Any]
    table: pd.DataFrame
    cap: float | None
    cache: Path
    further: Mapping[str, Further] = field(default_factory=dict)
    corrections: Sequence[Mapping[str, str]] = ()

    @cached_property
    def recipe(self) -> Recipe:
        return parse(self.tables)

    @cached_property
    def folds_hash(self) -> str:
        return folds_hash(self.table)

    @cached_property
    def labels_hash(self) -> str:
        return digest(self.table[["path", "content", "person", "mask", "gender", "age"]].to_numpy().tolist())

    def signature(self, stage: str, fold: int = 0) -> str:
        """A fingerprint of everything that a stage's fit depends on; another one makes it stale. It is the same for all folds."""
        settings = self.recipe.stages[stage]
        if fold == self.recipe.folds:
            return digest([self.signature(stage), self.recipe.answer])
        return digest(
            {
                "learning": LEARNING,
                "stage": stage,
                "settings": settings.model_dump(),
                "start": self.signature(settings.start) if settings.start else None,
                "augment": self.recipe.augment.get(settings.augment),
                "face": self.recipe.face.model_dump(),
                "anchors": self.recipe.combiner.anchors,
                "seed": self.recipe.seed,
                "cap": self.cap,
                "labels": self.labels_hash,
                "folds": self.folds_hash,
                **{kind: further.hash for kind, further in self.further.items()},
            }
        )

    @cached_property
    def seen(self) -> dict[str, str]:
        """The photographs that the run learned from, by content, and how `infer` marks each."""
        marks = dict.fromkeys(self.table["content"], TRAINED_ON)
        for further in self.further.values():
            marks |= dict.fromkeys(further.table["content"], further.record["flag"])
        return marks

    def command(self, words: str) -> str:
        """A command of this run, as its user would type it."""
        return f"python cli.py {words}" + ("" if self.folder == Path("artifacts") else f" --artifacts {self.folder}")

    def fold_folder(self, stage: str, fold: int) -> Path:
        """Of a fold's fit, or of the one that holds nobody out."""
        return self.folder / "stages" / stage / self.recipe.fit_name(fold).replace(" ", "")

    def state(self, stage: str, fold: int) -> str:
        """`fitted`, `stale` (fitted with other settings, data or folds), `begun` or `missing`."""
        folder = self.fold_folder(stage, fold)
        if (folder / "meta.json").exists():
            current = read_json(folder / "meta.json").get("signature") == self.signature(stage, fold)
            return "fitted" if current and not self._other_weights(stage, fold) else "stale"
        return "begun" if list(folder.glob("checkpoint-*.safetensors")) else "missing"

    @cached_property
    def _weights_content(self) -> dict[Path, str]:
        """What the files hold that stages start from: read once for all folds."""
        files = {stage.weights_file for stage in self.recipe.stages.values() if stage.weights_file}
        return {file: content_hash(file) for file in files}

    def _other_weights(self, stage: str, fold: int) -> bool:
        """Whether the file that a fit started from, or that the stage it started from did, now holds something else. One that is gone
        changes nothing."""
        settings, meta = self.recipe.stages[stage], self.fold_folder(stage, fold) / "meta.json"
        if settings.start:
            return self._other_weights(settings.start, fold)
        now = self._weights_content.get(settings.weights_file, "") if settings.weights_file else ""
        known = read_json(meta).get("weights_content") if now and meta.exists() else None
        return bool(now and known) and now != known

    @property
    def fits_digest(self) -> str:
        """A fingerprint of what the fits that a combiner stacks have answered; it changes where one is fitted anew."""
        metas = [
            self.fold_folder(stage, fold) / "meta.json" for stage in self.recipe.stages for fold in self.recipe.fits
        ]
        said = [read_json(meta).get("outputs") if meta.exists() else None for meta in metas]
        return digest([[self.signature(stage) for stage in self.recipe.stages], said])

    def combiner_state(self) -> str:
        """`fitted`, `stale` or `missing`."""
        meta = self.folder / "combiner" / "meta.json"
        if not meta.exists():
            return "missing"
        record = read_json(meta)
        same = record.get("fits") == self.fits_digest and record.get("recipe") == self.recipe.combiner.model_dump()
        return "fitted" if same else "stale"

    def anchors(self) -> np.ndarray:
        """Rows that every fold's model embeds, int64 (A,), sorted."""
        generator = np.random.default_rng(derive(self.recipe.seed, "anchors"))
        count = min(self.recipe.combiner.anchors, len(self.table))
        return np.sort(generator.choice(len(self.table), count, replace=False))

    def faces(self, workers: int) -> tuple[FaceStore, np.ndarray]:
        """The store that holds every row's crop, and each row's place in it, int64 (N,)."""
        store = self.store()
        return store, _places(store, self.root, self.table, workers)

    def further_rows(self, store: FaceStore, workers: int) -> pd.DataFrame | None:
        """Rows of further photographs, with the place `crop` of each in the store; None where the run has none."""
        parts = [
            each.table.assign(crop=_places(store, each.root, each.table, workers)) for each in self.further.values()
        ]
        return pd.concat(parts, ignore_index=True) if parts else None

    def store(self) -> FaceStore:
        """The cache of face crops."""
        return FaceStore(self.cache, self.recipe.face)

    @property
    def corrections_file(self) -> Path:
        """Where the corrections are kept, if there were any."""
        return self.folder / CORRECTIONS

    def save(self) -> None:
        """Write table.csv, corrections, further photographs, and run.json last."""
        write_csv(self.folder / "table.csv", self.table)
        if self.corrections:
            write_csv(self.corrections_file, pd.DataFrame(self.corrections))
        else:
            self.corrections_file.unlink(missing_ok=True)  # of a run that was begun here before
        for kind, further in self.further.items():
            further.save(self.folder / "learned-from" / kind)
        write_json(
            self.folder / "run.json",
            {
                "data": str(self.root.resolve()),
                "cache": str(self.cache.resolve()) if self.cache != self.folder / "cache" else None,
                "recipe": self.tables,
                "cap": self.cap,
                "seed": self.recipe.seed,
                "folds_hash": self.folds_hash,
                "labels_hash": self.labels_hash,
                "further": list(self.further),
                "versions": versions(),
            },
        )


def _places(store: FaceStore, root: Path, table: pd.DataFrame, workers: int) -> np.ndarray:
    """Where the store holds the crop of each row, int64 (N,).

    Raises:
        FacecadeError: photographs that are not what they were when the run began.
    """
    entries = store.fill([root / path for path in table["path"]], workers)
    wrong = [str(entry) for entry in entries if isinstance(entry, DecodeError)]
    changed = [
        path
        for path, content, entry in zip(table["path"], table["content"], entries, strict=True)
        if isinstance(entry, Entry) and entry.content != content
    ]
    if wrong or changed:
        what = wrong[:20] + [f"{path}: other content than when the run began" for path in changed[:20]]
        raise FacecadeError(
            f"{len(wrong) + len(changed)} photograph(s) changed or vanished:\n  " + "\n  ".join(what),
            "give --data again to begin anew with the photographs as they are",
        )
    return np.array([entry.row for entry in entries if isinstance(entry, Entry)])


def open_run(folder: Path) -> Run:
    """Read a run back; raises FacecadeError where there is none."""
    if not (folder / "run.json").exists():
        raise FacecadeError(
            f"{folder} holds no run",
            "begin one: python cli.py fit-stage all --data DATA, or name its --artifacts folder",
        )
    said = read_json(folder / "run.json")
    table = read_kept(folder / "table.csv")
    cache = Path(said["cache"]) if said["cache"] else folder / "cache"
    further = {kind: read_further(folder / "learned-from" / kind) for kind in said.get("further", [])}
    kept = folder / CORRECTIONS
    corrections = [row.cells for row in read_sheet(kept, ["id", "field", "value"])] if kept.exists() else []
    return Run(folder, Path(said["data"]), said["recipe"], table, said["cap"], cache, further, corrections)


def change_recipe(run: Run, tables: Mapping[str, Any], dry: bool = False) -> Run:
    """The run with other tables of a recipe, checked and (unless `dry`) saved.

    Raises:
        FacecadeError: the change would redraw the folds, which every stage shares.
    """
    new = parse(tables)
    old = run.recipe
    if (new.folds, new.age_cap, new.seed) != (old.folds, old.age_cap, old.seed):
        raise FacecadeError(
            "folds, seed and age_cap are settled once for a run", "give --data as well to begin the run anew"
        )
    changed = replace(run, tables=dict(tables))
    if not dry:
        changed.save()
    return changed


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
        pseudo: a run that labelled further photographs to learn from (`pipeline.pseudo_label`).
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

    def looked_at(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
        if dry:  # what is fitted already is known by content, without finding a face
            return rows.assign(content=[content_hash(root / path) for path in rows["path"]])
        return _with_content(rows, root, FaceStore(cache, checked.face), skip_bad, workers)

    table = looked_at(table, root)
    table = table.assign(fold=assign_folds(table, checked.folds, checked.seed))
    further: dict[str, Further] = {}
    if beside:
        extra_root, more = beside
        further["added"] = added(extra_root, looked_at(more, extra_root), table, checked.folds)
    if pseudo_labels:
        _require_same_folds(pseudo_labels, table)
        further["pseudo"] = pseudo_labels
    run = Run(folder, root, dict(tables), table, _cap(table, checked), cache, further, corrected)
    if not dry:
        run.save()
    note(_summary(run))
    for each in further.values():
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


def _require_same_folds(pseudo: Further, table: pd.DataFrame) -> None:
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
            f"{len(wrong)} photograph(s) cannot be read:\n  " + "\n  ".join(wrong),
            "mend or remove them, or give --skip-bad to go on without them",
        )
    for line in wrong:
        note(f"skipped: {line}")
    keep = np.array([isinstance(entry, Entry) for entry in entries], bool)
    table = table[keep].reset_index(drop=True)
    found = [entry for entry in entries if isinstance(entry, Entry)]
    if store.face.detector == "mtcnn":
        none = sum(entry.box is None for entry in found)
        note(f"faces: found in {len(found) - none} of {len(found)} photographs; {none} use the centre crop")
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
        f"data: {len(run.table)} photographs of {len(people)} people ({', '.join(groups)}), "
        f"{run.recipe.folds} folds {run.folds_hash}"
    )


def _band_counts(age: pd.Series) -> np.ndarray:
    return np.bincount(band_of(age), minlength=len(BANDS))


def describe(run: Run) -> dict[str, Any]:
    """What the run's folder holds: every fold of every stage, the combiner, and what to do next."""
    fits: list[dict[str, Any]] = []
    for stage in run.recipe.stages:
        for fold in run.recipe.fits:
            state, meta = run.state(stage, fold), run.fold_folder(stage, fold) / "meta.json"
            record = read_json(meta) if meta.exists() else {}
            fits.append(
                {
                    "stage": stage,
                    "fold": fold,
                    "name": run.recipe.fit_name(fold),
                    "state": state,
                    "backbone": run.recipe.stages[stage].backbone,
                    "score": record.get("score", {}),
                    "seconds": record.get("seconds"),
                }
            )
    unfitted = list(dict.fromkeys(item["stage"] for item in fits if item["state"] != "fitted"))
    combiner: dict[str, Any] = {"state": run.combiner_state()}
    if combiner["state"] != "missing":
        record = read_json(run.folder / "combiner" / "meta.json")
        combiner |= {"way": record["way"], "score": record["nested_choice"]["macro-F1"]}
    steps = [run.command(f"fit-stage {stage} --resume") for stage in unfitted]
    if not steps:
        steps = [run.command("infer DATA" if combiner["state"] == "fitted" else "fit-meta")]
    return {
        "data": str(run.root),
        "photographs": len(run.table),
        "people": int(run.table["person"].nunique()),
        "folds_hash": run.folds_hash,
        "further": [each.record["text"] for each in run.further.values()],
        "fits": fits,
        "combiner": combiner,
        "next": steps,
    }


def scores_text(scores: dict[str, float]) -> str:
    """Scores in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
