"""One fold of one stage: train, answer for the held-out people, keep both."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from facecade.backbones.backbone import Backbone
from facecade.backbones.batch_norm import is_folded, restore_statistics
from facecade.backbones.weights import load_weights, origin
from facecade.base.artifact import versions, write_arrays, write_json
from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.base.machine import Machine
from facecade.base.progress import Bar
from facecade.base.seeding import derive
from facecade.faces.labels import BAND_EDGES
from facecade.recipe import StageRecipe
from facecade.stages.stage import Stage
from facecade.training import checkpoint
from facecade.training.dataset import AugmentedCrops
from facecade.training.freeze import ALL, CachedFeatures, PartlyFrozen, cache_features, cache_shared_features
from facecade.training.loop import TrainingData, fit
from facecade.training.pixels import chunk
from facecade.training.predict import CHUNK, predict
from facecade.training.tracking import read_history

BATCH_NORM_CROPS = 512
"""Crops by which batch norm that came folded gets its statistics back."""

NO_FOLD = -1
"""The fold of images that are learned from and never scored."""


@dataclass(frozen=True)
class Fit:
    """One fold's fit, asked for: what to learn from, with what, and where it is kept.

    fold: the one held out; a number that no row has where nobody is. name: what people call it. weights: where training
    starts, and head_rows: which of its outputs each of the head's takes over, as `backbones.weights.load_weights` takes
    them. soup: files of weights whose mean it is instead of being trained.
    """

    stage: Stage
    fold: int
    name: str
    recipe: StageRecipe
    weights: str
    head_rows: Sequence[int]
    transforms: Sequence[Mapping[str, Any]]
    cap: float | None
    seed: int
    signature: str
    folds_hash: str
    folder: Path
    soup: Sequence[Path] = ()

    @property
    def title(self) -> str:
        return f"{self.stage.name} {self.name}"

    @property
    def key(self) -> tuple[str, int]:
        """What names the fit in its run."""
        return self.stage.name, self.fold

    @property
    def needs(self) -> list[tuple[str, int]]:
        """The fits that must be there before this one: what it starts from, or what it is the mean of."""
        if self.soup:
            return [(self.stage.name, fold) for fold in range(len(self.soup))]
        return [(self.recipe.start, self.fold)] if self.recipe.start else []


@dataclass(frozen=True)
class RunData:
    """What all fits of a run learn from; light enough to send to another process.

    table: sample table with `fold`, N rows. pixels: a file of uint8 crops, with its shape (M, h, w, 3).
    crop_row: int64 (N,), where each row's crop lies. anchors: int64 (A,), rows that every fold embeds
    for alignment, whichever fold they are in. further: images that are not scored, `fold, path, person, mask,
    gender, age, crop`, a row for each fold that learns from them.
    """

    table: pd.DataFrame
    pixels: Path
    shape: tuple[int, ...]
    crop_row: np.ndarray
    anchors: np.ndarray
    extra: pd.DataFrame | None = None

    def crops(self) -> np.ndarray:
        """The crops, memory-mapped."""
        return np.memmap(self.pixels, np.uint8, "r", shape=self.shape)

    def taught(self, fold: int) -> tuple[pd.DataFrame, np.ndarray]:
        """The sample table with what further images teach a fold below it, in no fold themselves; and `crop_row`."""
        if self.extra is None:
            return self.table, self.crop_row
        if (self.table["fold"] == fold).any():
            extra = self.extra[self.extra["fold"] == fold]
        else:  # nobody is held out: every further image, by the first label that it has
            extra = self.extra.drop_duplicates("crop")
        added = extra.assign(fold=NO_FOLD, person="further " + extra["person"]).reindex(columns=self.table.columns)
        return pd.concat([self.table, added], ignore_index=True), np.r_[self.crop_row, extra["crop"]]


def fit_fold(wanted: Fit, run_data: RunData, device: torch.device, machine: Machine, resume: bool) -> dict[str, Any]:
    """Train on every fold but one, or on all; keep weights, outputs and a record in the fit's folder.

    Args:
        machine: its `workers` augment for a GPU, and `compile` and `autocast` say how training is computed.
        resume: go on from a checkpoint of the same signature, if there is one.

    Returns:
        The record, as in the folder's meta.json; its presence says that the fit is whole.
    """
    stage, recipe, folder = wanted.stage, wanted.recipe, wanted.folder
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / f"checkpoint-{wanted.signature}.safetensors"
    (folder / "meta.json").unlink(missing_ok=True)
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != state or not resume:
            old.unlink()
    backbone = new_backbone(stage, recipe, wanted.seed).to(device)
    kept, learned, cached = (_mean if wanted.soup else _train)(wanted, run_data, backbone, state, machine)

    table, anchors = run_data.table, run_data.anchors
    answered = np.flatnonzero(table["fold"].to_numpy() == wanted.fold)
    asked = np.r_[answered, anchors]
    if cached:
        embedding, outputs = cached.answers(PartlyFrozen(kept, ALL, recipe.size).eval(), asked, recipe)
    else:
        with Bar(f"{wanted.title}: out of fold", len(asked), "images") as bar:
            embedding, outputs = predict(kept, run_data.crops(), run_data.crop_row[asked], recipe, bar.advance)
    logits = stage.logits(torch.from_numpy(outputs)).numpy()
    own = len(answered)
    write_arrays(
        folder / "outputs.npz",
        {
            "rows": answered,
            "embedding": embedding[:own],
            "logits": logits[:own],
            "anchors": anchors,
            "anchor_embedding": embedding[own:],
        },
    )
    checkpoint.save_weights(folder / "weights.safetensors", kept)
    record = {
        "stage": stage.name,
        "fold": wanted.fold,
        "signature": wanted.signature,
        "folds_hash": wanted.folds_hash,
        "outputs": hashlib.blake2b((folder / "outputs.npz").read_bytes(), digest_size=8).hexdigest(),
        "seed": wanted.seed,
        "recipe": recipe.model_dump(),
        "columns": stage.columns,
        "device": str(device),
        **learned,
        "parameters": sum(p.numel() for p in kept.parameters()),
        "score": stage.score(logits[:own], table.iloc[answered]) if own else {},
        "versions": versions(),
    }
    write_json(folder / "meta.json", record)
    state.unlink(missing_ok=True)
    return record


def _mean(
    wanted: Fit, run_data: RunData, backbone: Backbone, state: Path, machine: Machine
) -> tuple[Backbone, dict[str, Any], None]:
    """The mean of the folds' weights, which everybody has taught."""
    started = time.monotonic()
    checkpoint.load_mean(wanted.soup, backbone)
    people, images = run_data.table["person"].nunique(), len(run_data.table)
    about = {"people": int(people), "images": images, "extra_data": 0, "epochs": 0}
    kept: Backbone = backbone.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return kept, {**about, "seconds": round(time.monotonic() - started, 1)}, None


def _train(
    wanted: Fit, run_data: RunData, backbone: Backbone, state: Path, machine: Machine
) -> tuple[Backbone, dict[str, Any], CachedFeatures | None]:
    """What is learned from everybody who is not held out; of whom, and for how long; and what is recorded_choice of every row of the sample
    table, where that says it all."""
    (table, crop_row), stage, recipe = run_data.taught(wanted.fold), wanted.stage, wanted.recipe
    held_out = table["fold"].to_numpy() == wanted.fold
    weight = stage.weight(table, recipe.other_gender) * ~_left_out(table, recipe)
    rows, stop_rows = _watched(np.flatnonzero(~held_out & (weight > 0)), table, wanted)
    taught = _taught(table, wanted)
    training_data = TrainingData(
        rows,
        stop_rows,
        stage.target(taught),
        weight,
        table["person"].to_numpy(),
        stage.stratum(taught),
        (table["age"] >= BAND_EDGES[-1]).to_numpy(copy=True),
        AugmentedCrops(run_data.crops(), crop_row, wanted.transforms, recipe),
    )
    if not len(training_data.rows):
        raise FacecadeError(f"stage {stage.name} has no labelled rows to learn from")
    content = content_hash(recipe.weights_file) if recipe.weights_file else None  # now: training takes long
    load_weights(backbone, recipe.backbone, wanted.weights, wanted.head_rows)
    if wanted.weights != "none" and recipe.freeze != ALL and is_folded(backbone):
        restore_statistics(
            backbone, _shown_to_batch_norm(run_data.crops(), crop_row[rows], recipe.size, backbone, wanted)
        )
    loss, seed = stage.criterion(wanted.cap, training_data.target[rows]), derive(wanted.seed, stage.name, wanted.fold)
    place = (state, wanted.folder, wanted.title)
    device = next(backbone.parameters()).device.type
    halved, cached = machine.uses_bf16(device), None
    if recipe.freeze == "none":
        # On a processor the model has use for every core itself.
        workers = machine.workers if device == "cuda" else 0
        kept = fit(backbone, training_data, loss, recipe, seed, *place, workers, machine.compile, halved)
    else:
        partly_frozen, known = _partly_frozen(backbone, recipe, np.r_[rows, stop_rows], run_data, crop_row, wanted)
        training_data = replace(training_data, shown=known)
        cached = known if (known.place[: len(run_data.table)] >= 0).all() and recipe.freeze == ALL else None
        kept = fit(
            partly_frozen, training_data, loss, recipe, seed, *place, compiled=machine.compile, autocast=halved
        ).backbone
    history = read_history(wanted.folder)
    return (
        kept,
        {
            "people": int(table["person"][training_data.rows].nunique()),
            "images": len(training_data.rows),
            "extra_data": int((table["fold"][training_data.rows] == NO_FOLD).sum()),
            "epochs": len(history),
            "seconds": round(sum(line["seconds"] for line in history), 1),  # of all epochs, those before a cut too
            "bf16": halved,
            "pretrained": origin(recipe.backbone, wanted.weights),
            "weights_content": content,
        },
        cached,
    )


def _shown_to_batch_norm(
    crops: np.ndarray, rows: np.ndarray, size: tuple[int, int], backbone: Backbone, wanted: Fit
) -> Iterator[torch.Tensor]:
    """Some of the crops that teach, uint8 [B, h, w, 3], as a network whose batch norm has lost its statistics is shown them."""
    device = next(backbone.parameters()).device
    drawn = np.random.default_rng(derive(wanted.seed, "batch norm", wanted.fold)).permutation(rows)[:BATCH_NORM_CROPS]
    for some in np.array_split(drawn, -(-len(drawn) // CHUNK[device.type])):
        yield torch.from_numpy(chunk(crops[some], size, len(some))).to(device)


def _partly_frozen(
    backbone: Backbone, recipe: StageRecipe, rows: np.ndarray, run_data: RunData, crop_row: np.ndarray, wanted: Fit
) -> tuple[PartlyFrozen, CachedFeatures]:
    """What is left to learn, and what the frozen part says of the rows that teach."""
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    partly_frozen = PartlyFrozen(backbone, recipe.freeze, recipe.size).eval()
    title, crops = f"{wanted.title}: frozen part", run_data.crops()
    if recipe.same_in_all_folds:
        with Bar(title, len(crop_row), "images") as bar:
            return partly_frozen, cache_shared_features(
                partly_frozen, crops, crop_row, recipe, run_data.pixels.parent, bar.advance
            )
    with Bar(title, len(rows), "images") as bar:
        return partly_frozen, cache_features(partly_frozen, crops, crop_row, rows, recipe, wanted.folder, bar.advance)


def _taught(table: pd.DataFrame, wanted: Fit) -> pd.DataFrame:
    """The table as a stage is taught it: old from the recipe's age on."""
    if wanted.recipe.old_from == BAND_EDGES[-1]:
        return table
    if wanted.stage.learns_years:
        raise FacecadeError(
            f"stages.{wanted.stage.name}.old_from moves a band's edge, and this stage learns years",
            "leave the key out: its cuts are learned",
        )
    moved = table["age"].between(wanted.recipe.old_from, BAND_EDGES[-1], inclusive="left")
    return table.assign(age=table["age"].mask(moved, BAND_EDGES[-1]))


def _watched(rows: np.ndarray, table: pd.DataFrame, wanted: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Rows that teach, and rows of the people that early stopping watches instead (none without `patience`).

    They are training people: stopping on the fold held out would be a choice made on the people it scores.
    """
    if not wanted.recipe.patience:
        return rows, rows[:0]
    person, labelled = table["person"].to_numpy(), table["fold"].to_numpy()[rows] != NO_FOLD
    people = np.unique(person[rows[labelled]])
    random = np.random.default_rng(derive(wanted.seed, "early stopping", wanted.fold))
    watched = random.choice(people, max(1, round(len(people) * wanted.recipe.stop_share)), replace=False)
    aside = np.isin(person[rows], watched)
    return rows[~aside], rows[aside]


def _left_out(table: pd.DataFrame, recipe: StageRecipe) -> np.ndarray:
    """Rows whose age the recipe leaves out of training, bool (N,)."""
    if recipe.leave_out is None:
        return np.zeros(len(table), bool)
    return table["age"].between(*recipe.leave_out, inclusive="left").to_numpy()


def new_backbone(stage: Stage, recipe: StageRecipe, seed: int) -> Backbone:
    """A freshly initialised model. All folds of a stage start from the same one, which keeps
    their embeddings close enough to be aligned."""
    torch.manual_seed(derive(seed, stage.name, "initialisation"))
    return Backbone(
        recipe.backbone,
        stage.width,
        recipe.size,
        recipe.dropout,
        recipe.drop_path,
        recipe.backbone_args,
        recipe.mean,
        recipe.std,
        recipe.dropout_samples,
    )


def load_fold(wanted: Fit, device: torch.device) -> Backbone:
    """A fitted fold's model, in eval mode."""
    backbone = new_backbone(wanted.stage, wanted.recipe, wanted.seed)
    checkpoint.load_weights(wanted.folder / "weights.safetensors", backbone)
    return backbone.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]
