"""One fold of one stage: train it, predict the held-out rows, save weights and outputs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from facecade.backbones.backbone import Backbone
from facecade.backbones.batch_norm import is_folded, restore_statistics
from facecade.backbones.weights import load_weights, origin
from facecade.base.arrays import write_arrays
from facecade.base.artifact import digest, read_checked, versions, write_record, writing
from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash, is_file
from facecade.base.machine import Machine
from facecade.base.progress import Bar
from facecade.base.seeding import derive
from facecade.faces.labels import BAND_EDGES
from facecade.recipe import StageRecipe
from facecade.records import FitRecord, fit_command, read_fit_record
from facecade.stages.stage import Stage
from facecade.training import checkpoint
from facecade.training.dataset import AugmentedCrops
from facecade.training.freeze import ALL, CachedFeatures, PartlyFrozen, cache_features, cache_shared_features
from facecade.training.loop import TrainingData, Validation, fit
from facecade.training.pixels import padded_batch
from facecade.training.predict import IMAGES_PER_CHUNK, predict
from facecade.training.ranks import ALONE, Ranks
from facecade.training.sampling import epoch_rows
from facecade.training.tracking import read_history

BATCH_NORM_CROPS = 512
"""Crops from which the statistics of folded batch norms are computed."""

VALIDATION_SHARE, MIN_VALIDATION, MAX_VALIDATION = 0.1, 64, 400
"""Held-out images that are predicted after each epoch, for the learning curve: a tenth of the images of an epoch, within these
bounds. A forward pass is a third of a training step, so this costs about a thirtieth of the training."""

NO_FOLD = -1
"""The fold of extra data, which is trained on and never scored."""


@dataclass(frozen=True)
class Fit:
    """Everything that defines the fit of one fold of a stage.

    fold: the held-out fold; a number that no row has, if no fold is held out. name: for messages. weights, head_rows:
    pretrained weights and the outputs that the head takes from them, as in `backbones.weights.load_weights`. soup:
    files of weights; the fit is their mean instead of being trained.
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
        """Identifies the fit in its run."""
        return self.stage.name, self.fold

    @property
    def checkpoint(self) -> Path:
        """The file from which the fit resumes, if it started from the same weights."""
        start = Path(self.weights)
        content = content_hash(start) if is_file(start) else ""
        return self.folder / f"checkpoint-{digest([self.signature, content])}.safetensors"

    @property
    def needs(self) -> list[tuple[str, int]]:
        """Keys of the fits that this one depends on: the one it starts from, or those it is the mean of."""
        if self.soup:
            return [(self.stage.name, fold) for fold in range(len(self.soup))]
        return [(self.recipe.start_stage, self.fold)] if self.recipe.start_stage else []


@dataclass(frozen=True)
class RunData:
    """The data of all fits of a run; small enough to send to another process.

    table: sample table with `fold`, N rows. pixels: a file of uint8 crops of `shape` (M, h, w, 3). crop_row: int64
    (N,), index of each row's crop. anchors: int64 (A,), rows of any fold that every fold embeds for alignment. extra:
    extra data, `fold, path, person, mask, gender, age, crop`; a row for each fold that is trained on it.
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

    def training_table(self, fold: int) -> tuple[pd.DataFrame, np.ndarray]:
        """The sample table, followed by the extra data of a fold with fold NO_FOLD; and the `crop_row` of both."""
        if self.extra is None:
            return self.table, self.crop_row
        if (self.table["fold"] == fold).any():
            extra = self.extra[self.extra["fold"] == fold]
        else:  # no fold is held out: all extra images, each with its first label
            extra = self.extra.drop_duplicates("crop")
        added = extra.assign(fold=NO_FOLD, person="further " + extra["person"]).reindex(columns=self.table.columns)
        return pd.concat([self.table, added], ignore_index=True), np.r_[self.crop_row, extra["crop"]]


def discard_earlier(job: Fit, resume: bool) -> None:
    """Remove what an earlier fit left in the folder: its record, and its checkpoints, without that of the same signature if
    `resume`. Once for a fit, however often its process is lost and it is run again."""
    with writing(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "meta.json").unlink(missing_ok=True)
        for old in job.folder.glob("checkpoint-*.safetensors"):
            if old != job.checkpoint or not resume:
                old.unlink()


@dataclass(frozen=True)
class TrainedFold:
    """What a fit has computed.

    details: for its record. rows: int64 (n,), the held-out rows, then the anchors. embedding: float32 (n, D). logits: float32 (n, C).
    held_out: how many of the rows are held out.
    """

    model: Backbone
    details: dict[str, Any]
    rows: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    held_out: int


def fit_fold(job: Fit, run_data: RunData, device: torch.device, machine: Machine, ranks: Ranks = ALONE) -> FitRecord:
    """Train on all folds but one, or on all; write weights, outputs and a record to the fit's folder. Resumes from the fit's
    checkpoint, if there is one.

    Args:
        machine: `workers` augment for training on a GPU; `compile` and `autocast` are settings of training.
        ranks: processes that train together, of which this one is the main one; the others call `train_fold`.

    Returns:
        The record, as in the folder's meta.json, which exists only if the fit is complete.

    Raises:
        FacecadeError: no rows to train on; damaged weights to start from; training diverged.
    """
    trained, stage, folder = train_fold(job, run_data, device, machine, ranks), job.stage, job.folder
    count, rows = trained.held_out, trained.rows
    score = stage.score(trained.logits[:count], run_data.table.iloc[rows[:count]]) if count else {}
    outputs_content = write_arrays(
        folder / "outputs.npz",
        {
            "rows": rows[:count],
            "embedding": trained.embedding[:count],
            "logits": trained.logits[:count],
            "anchors": rows[count:],
            "anchor_embedding": trained.embedding[count:],
        },
    )
    record = FitRecord(
        stage=stage.name,
        fold=job.fold,
        signature=job.signature,
        folds_hash=job.folds_hash,
        weights=checkpoint.save_weights(folder / "weights.safetensors", trained.model),
        outputs=outputs_content,
        seed=job.seed,
        recipe=job.recipe,
        columns=stage.columns,
        device=device.type,
        **trained.details,
        parameters=sum(p.numel() for p in trained.model.parameters()),
        # without those of a target that nobody who was held out has a label of
        score={name: value for name, value in score.items() if math.isfinite(value)},
        versions=versions(),
    )
    write_record(folder / "meta.json", record)
    job.checkpoint.unlink(missing_ok=True)
    return record


def train_fold(job: Fit, run_data: RunData, device: torch.device, machine: Machine, ranks: Ranks) -> TrainedFold:
    """`fit_fold` without its results on disk: train, and compute the outputs of the held-out rows and of the anchors."""
    stage, recipe = job.stage, job.recipe
    backbone = new_backbone(stage, recipe, job.seed).to(device)
    if job.soup:
        model, details, cached = _soup(job, run_data, backbone)
    else:
        model, details, cached = _train(job, run_data, backbone, machine, ranks)
    held_out = np.flatnonzero(run_data.table["fold"].to_numpy() == job.fold)
    rows = np.r_[held_out, run_data.anchors]
    if cached:
        frozen = PartlyFrozen(model, ALL, recipe.size).eval()
        embedding, outputs = ranks.spread(rows, lambda own: cached.predict(frozen, own, recipe))
    else:
        crops, crop_row = run_data.crops(), run_data.crop_row
        with Bar(f"{job.title}: out of fold", len(rows), "images") as bar:
            advance = partial(_advance_all, bar, ranks.count)
            embedding, outputs = ranks.spread(rows, lambda own: predict(model, crops, crop_row[own], recipe, advance))
    logits = stage.logits(torch.from_numpy(outputs)).numpy()
    if not (np.isfinite(embedding).all() and np.isfinite(logits).all()):
        raise FacecadeError(
            f"the training of {job.title} diverged: its outputs are not finite",
            f"give a lower learning rate: --set stages.{stage.name}.lr={recipe.lr / 10:g}",
        )
    return TrainedFold(model, details, rows, embedding, logits, len(held_out))


def _advance_all(bar: Bar, processes: int, count: int) -> None:
    """Advance a bar by what all processes have done, if they are as fast as this one."""
    bar.advance(min(processes * count, bar.total - bar.done))


def _soup(job: Fit, run_data: RunData, backbone: Backbone) -> tuple[Backbone, dict[str, Any], None]:
    """The mean of the folds' weights, which together were trained on all rows."""
    started = time.monotonic()
    checkpoint.load_mean([partial(_load, path.parent) for path in job.soup], backbone)
    people, images = run_data.table["person"].nunique(), len(run_data.table)
    details = {"people": int(people), "images": images, "extra_data": 0, "epochs": 0}
    model: Backbone = backbone.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return model, {**details, "seconds": round(time.monotonic() - started, 1)}, None


def _train(
    job: Fit, run_data: RunData, backbone: Backbone, machine: Machine, ranks: Ranks
) -> tuple[Backbone, dict[str, Any], CachedFeatures | None]:
    """Train on all rows that are not held out.

    Returns:
        The model; details for the record; the cached features if the whole backbone is frozen and they cover every row
        of the sample table, else None.
    """
    (table, crop_row), stage, recipe = run_data.training_table(job.fold), job.stage, job.recipe
    held_out = table["fold"].to_numpy() == job.fold
    weight = training_weight(stage, recipe, table)
    rows, stop_rows = _split_stop_rows(np.flatnonzero(~held_out & (weight > 0)), table, job)
    labels = _training_labels(table, job)
    training_data = TrainingData(
        rows,
        stop_rows,
        stage.target(labels),
        weight,
        table["person"].to_numpy(),
        stage.stratum(labels),
        (table["age"] >= BAND_EDGES[-1]).to_numpy(copy=True),
        AugmentedCrops(run_data.crops(), crop_row, job.transforms, recipe),
    )
    if not len(training_data.rows):
        raise FacecadeError(f"stage {stage.name} has no labelled images to train on", "label more people")
    validated = _validation_rows(np.flatnonzero(held_out & (weight > 0)), training_data, job)
    if len(validated):
        training_data = replace(
            training_data, validation=Validation(validated, partial(_scores, stage, table.iloc[validated]))
        )
    # hashed before training, because the file may change meanwhile
    content = content_hash(recipe.weights_file) if recipe.weights_file else None
    if recipe.start_stage:
        _read_weights(Path(job.weights).parent)
    load_weights(backbone, recipe.backbone, job.weights, job.head_rows)
    if job.weights != "none" and recipe.freeze != ALL and is_folded(backbone):
        restore_statistics(backbone, _batch_norm_batches(run_data.crops(), crop_row[rows], recipe.size, backbone, job))
    loss, seed = stage.criterion(job.cap, training_data.target[rows]), derive(job.seed, stage.name, job.fold)
    destination = (job.checkpoint, job.folder, job.title)
    device = next(backbone.parameters()).device.type
    bf16, cached = machine.uses_bf16(device), None
    if recipe.freeze == "none":
        # On a CPU, the model uses every core itself.
        workers = 0 if device == "cpu" else machine.workers
        model = fit(backbone, training_data, loss, recipe, seed, *destination, workers, machine.compile, bf16, ranks)
    else:
        needed = np.r_[rows, stop_rows, validated]
        partly_frozen, features = _partly_frozen(backbone, recipe, needed, run_data, crop_row, job, ranks)
        training_data = replace(training_data, samples=features)
        covers_all = recipe.same_in_all_folds or not held_out.any()
        covers_all = covers_all and bool((features.feature_row[: len(run_data.table)] >= 0).all())
        cached = features if covers_all and recipe.freeze == ALL else None
        model = fit(
            partly_frozen, training_data, loss, recipe, seed, *destination, 0, machine.compile, bf16, ranks
        ).backbone
    history = read_history(job.folder)
    return (
        model,
        {
            "people": int(table["person"][training_data.rows].nunique()),
            "images": len(training_data.rows),
            "extra_data": int((table["fold"][training_data.rows] == NO_FOLD).sum()),
            "epochs": len(history),
            "seconds": round(sum(line["seconds"] for line in history), 1),  # including epochs before an interruption
            "bf16": bf16,
            "pretrained": origin(recipe.backbone, job.weights),
            "weights_content": content or None,
        },
        cached,
    )


def _batch_norm_batches(
    crops: np.ndarray, rows: np.ndarray, size: tuple[int, int], backbone: Backbone, job: Fit
) -> Iterator[torch.Tensor]:
    """Batches of some training crops, uint8 [B, h, w, 3], to compute the statistics of folded batch norms."""
    device = next(backbone.parameters()).device
    sample = np.random.default_rng(derive(job.seed, "batch norm", job.fold)).permutation(rows)[:BATCH_NORM_CROPS]
    for batch in np.array_split(sample, -(-len(sample) // IMAGES_PER_CHUNK[device.type])):
        yield torch.from_numpy(padded_batch(crops[batch], size, len(batch))).to(device)


def _partly_frozen(
    backbone: Backbone,
    recipe: StageRecipe,
    rows: np.ndarray,
    run_data: RunData,
    crop_row: np.ndarray,
    job: Fit,
    ranks: Ranks,
) -> tuple[PartlyFrozen, CachedFeatures]:
    """The trainable part, and the frozen part's features of the training rows."""
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    partly_frozen = PartlyFrozen(backbone, recipe.freeze, recipe.size).eval()
    title, crops = f"{job.title}: frozen part", run_data.crops()
    if recipe.same_in_all_folds:
        with ranks.main_first(), Bar(title, len(crop_row), "images") as bar:
            return partly_frozen, cache_shared_features(
                partly_frozen, crops, crop_row, recipe, run_data.pixels.parent, bar.advance
            )
    with Bar(title, len(rows), "images") as bar:
        return partly_frozen, cache_features(partly_frozen, crops, crop_row, rows, recipe, job.folder, bar.advance)


def _training_labels(table: pd.DataFrame, job: Fit) -> pd.DataFrame:
    """The table with the ages that a stage is trained on: ages from `old_from` on count as the oldest band."""
    if job.recipe.old_from == BAND_EDGES[-1]:
        return table
    if job.stage.learns_years:
        raise FacecadeError(
            f"stages.{job.stage.name}.old_from moves a band's edge, and this stage learns years",
            "remove the key: its cuts are fitted",
        )
    moved = table["age"].between(job.recipe.old_from, BAND_EDGES[-1], inclusive="left")
    return table.assign(age=table["age"].mask(moved, BAND_EDGES[-1]))


def _split_stop_rows(rows: np.ndarray, table: pd.DataFrame, job: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Training rows, and validation rows for early stopping, of other people (none without `patience`).

    They are split off the training rows: stopping on the held-out fold would be a choice made on the rows it scores.
    """
    if not job.recipe.patience:
        return rows, rows[:0]
    person, has_fold = table["person"].to_numpy(), table["fold"].to_numpy()[rows] != NO_FOLD
    people = np.unique(person[rows[has_fold] if has_fold.any() else rows])
    random = np.random.default_rng(derive(job.seed, "early stopping", job.fold))
    stop_people = random.choice(people, max(1, round(len(people) * job.recipe.stop_share)), replace=False)
    in_stop = np.isin(person[rows], stop_people)
    return rows[~in_stop], rows[in_stop]


def _validation_rows(candidates: np.ndarray, training_data: TrainingData, job: Fit) -> np.ndarray:
    """Some of the labelled held-out rows, int64 (m,), sorted; chosen by the seed."""
    of_epoch = epoch_rows(
        training_data.rows, training_data.person, training_data.stratum, training_data.old, job.recipe, job.seed, 0
    )
    count = min(max(round(VALIDATION_SHARE * len(of_epoch)), MIN_VALIDATION), MAX_VALIDATION)
    random = np.random.default_rng(derive(job.seed, "validation", job.fold))
    return np.sort(random.permutation(candidates)[:count])


def _scores(stage: Stage, table: pd.DataFrame, outputs: np.ndarray) -> dict[str, float]:
    """A stage's scores of head outputs (n, width) for the rows of a table."""
    return stage.score(stage.logits(torch.from_numpy(outputs)).numpy(), table)


def training_weight(stage: Stage, recipe: StageRecipe, table: pd.DataFrame) -> np.ndarray:
    """Weight of each row in the loss, float32 (N,); 0 where the label is unknown or the recipe leaves the row out."""
    return stage.weight(table, recipe.other_gender) * ~_excluded_ages(table, recipe)


def _excluded_ages(table: pd.DataFrame, recipe: StageRecipe) -> np.ndarray:
    """Rows whose age the recipe excludes from training, bool (N,)."""
    if recipe.leave_out is None:
        return np.zeros(len(table), bool)
    return table["age"].between(*recipe.leave_out, inclusive="left").to_numpy()


def new_backbone(stage: Stage, recipe: StageRecipe, seed: int) -> Backbone:
    """A newly initialized model. All folds of a stage start from the same one, so that their embeddings stay close
    enough to be aligned."""
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


def _read_weights(folder: Path) -> bytes:
    """The weights of a finished fit; raises FacecadeError where they are not those that its record names."""
    path = folder / "weights.safetensors"
    return read_checked(path, read_fit_record(folder).weights, fit_command(folder))


def _load(folder: Path, module: nn.Module) -> None:
    """Load the weights of a finished fit."""
    checkpoint.load_weights(_read_weights(folder), module, str(folder), fit_command(folder))


def load_fold(job: Fit, device: torch.device) -> Backbone:
    """The model of a fitted fold, in eval mode."""
    backbone = new_backbone(job.stage, job.recipe, job.seed)
    _load(job.folder, backbone)
    return backbone.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]
