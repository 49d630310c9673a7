"""The training loop, in plain torch."""

from __future__ import annotations

import copy
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from facecade.base.interrupt import uninterrupted_children
from facecade.base.progress import Bar, note
from facecade.base.seeding import derive
from facecade.recipe import StageRecipe
from facecade.training.checkpoint import load_state, save_state
from facecade.training.dataset import Dataset
from facecade.training.mixing import draw_mixture, mean_loss
from facecade.training.optimizers import Schedule, make_optimizer
from facecade.training.ranks import ALONE, Ranks
from facecade.training.sampling import epoch_batches, epoch_rows
from facecade.training.tracking import VALIDATION, write_history

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class Validation:
    """Rows of people whom the fit does not train on, for its learning curve. Nothing is chosen by them.

    rows: int64 (n,), of the sample table. score: head outputs (n, C) → scores by measure; the last is shown in training.
    """

    rows: np.ndarray
    score: Callable[[np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on. N is the number of rows of the sample table.

    rows: int64 (n,), training rows. stop_rows: int64 (m,), validation rows for early stopping. target: float32 (N,) or
    (N, T). weight: float32 (N,), of each row in the loss. person: (N,), stratum: int64 (N,), old: bool (N,), for
    sampling. samples: the model's input for each row. validation: None where no curve of it is wanted.
    """

    rows: np.ndarray
    stop_rows: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    person: np.ndarray
    stratum: np.ndarray
    old: np.ndarray
    samples: Dataset
    validation: Validation | None = None


class _EpochDataset(TorchDataset[np.ndarray]):
    """The samples of one epoch, each augmented with its own seed, so that the number of workers does not matter."""

    def __init__(self, samples: Dataset, rows: np.ndarray, seed: int) -> None:
        self.samples, self.rows, self.seed = samples, rows, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.samples.sample(int(self.rows[index]), derive(self.seed, index))


def _collate(samples: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(samples))


def fit(
    model: Model,
    training_data: TrainingData,
    loss: Callable[[Tensor, Tensor], Tensor],
    recipe: StageRecipe,
    seed: int,
    state: Path,
    folder: Path,
    title: str,
    workers: int = 0,
    compiled: bool = False,
    autocast: bool = False,
    ranks: Ranks = ALONE,
) -> Model:
    """Train `model`, and write a checkpoint to `state` after each epoch.

    If `state` exists, training resumes from it and gives the same weights as an uninterrupted run: every random number
    comes from a stream named by seed and epoch.

    Args:
        model: samples of `training_data` → (embedding [B, D], outputs [B, C]).
        loss: (outputs [B, C], target [B] or [B, T]) → [B].
        folder: for the learning curve (training/tracking.py).
        workers: processes that augment; 0 = this process.
        compiled: use `torch.compile`, which delays the first step, rounds differently and draws other random numbers
            for dropout.
        autocast: forward and backward in bf16 where torch's autocast uses it; weights and loss stay in float32.
        ranks: the processes that train together. Each computes its rows of a batch; the loss is that of the whole batch.

    Returns:
        The trained model, in eval mode: with averaged weights if the recipe has `ema` or `swa`.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, recipe)
    # With None, torch takes the plain mean, as SWA does.
    averaging = ema_with_warmup(recipe.ema) if not recipe.swa else None
    average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    current: Model = average.module if recipe.ema or recipe.swa else model  # type: ignore[assignment]
    best = copy.deepcopy(model) if recipe.patience else current
    modules: dict[str, torch.nn.Module] = {"model": model, "average": average}
    if recipe.patience:
        modules["best"] = best
    history: list[dict[str, float]] = load_state(state, modules, optimizer)["history"] if state.exists() else []
    ranks.require_same(f"the epochs in {state}", len(history))
    if history and ranks.main:  # the process may have been stopped between its state and its curve
        write_history(folder, history)

    target = torch.from_numpy(training_data.target).to(device)
    weight = torch.from_numpy(training_data.weight).to(device)
    old = torch.from_numpy(training_data.old)

    def rows_in(epoch: int) -> np.ndarray:
        return epoch_rows(
            training_data.rows, training_data.person, training_data.stratum, training_data.old, recipe, seed, epoch
        )

    steps = len(epoch_batches(len(rows_in(0)), recipe.batch_size))
    schedule = Schedule(optimizer, recipe, steps)
    schedule.after_epoch([line["loss"] for line in history])
    parallel = ranks.parallel(model)
    forward: Callable[..., tuple[Tensor, Tensor]] = torch.compile(parallel) if compiled else parallel
    first_epoch, in_epoch = len(history), steps * recipe.batch_size
    with Bar(title, in_epoch * recipe.epochs, "images", done=in_epoch * first_epoch) as bar:
        shown = _Shown(recipe.epochs, history)
        for epoch in range(first_epoch, recipe.epochs):
            if recipe.patience and _stalled(history, recipe.patience):
                break
            started = time.monotonic()
            # dropout and stochastic depth, which each process draws for its own rows
            torch.manual_seed(derive(seed, "torch", epoch, *([ranks.index] if ranks.index else [])))
            order = rows_in(epoch)
            batches = epoch_batches(len(order), recipe.batch_size)
            ranks.require_share(len(batches[0]))
            loader = DataLoader(
                _EpochDataset(training_data.samples, order, derive(seed, "augment", epoch)),
                batch_sampler=[batch[ranks.own].tolist() for batch in batches],
                collate_fn=_collate,
                num_workers=workers,
                multiprocessing_context=_forkserver_context() if workers else None,
                pin_memory=device.type == "cuda",
            )
            random = np.random.default_rng(derive(seed, "mix", epoch))
            model.train()
            if recipe.frozen_epochs:
                train_head_only(model, epoch < recipe.frozen_epochs)
            losses = []
            for step, (images, batch) in enumerate(zip(loader, batches, strict=True), start=epoch * steps):
                rate = schedule.set_rate(step)
                rows = torch.from_numpy(order[batch])
                index = rows.to(device, non_blocking=True)
                inputs = images.to(device, non_blocking=True)
                allowed = old[rows] | (not recipe.mix_only_old)
                mixture = draw_mixture(inputs.shape[1:3], allowed, recipe, random, device)
                if mixture:
                    inputs = mixture.images(ranks.gather(inputs, len(rows)), ranks.own)
                with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    _, outputs = forward(inputs)
                outputs = ranks.gather(outputs.float(), len(rows))
                mean = mean_loss(loss, outputs, target[index], weight[index], mixture)
                mean.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
                optimizer.step()
                optimizer.zero_grad()
                if recipe.ema and not recipe.swa:
                    average.update_parameters(model)
                losses.append(mean.detach())
                if compiled and epoch == first_epoch and len(losses) == 1:
                    note(f"{title}: compiled within {time.monotonic() - started:.0f} s")
                bar.advance(len(rows), shown.text(epoch, losses))
            history.append({"epoch": epoch + 1, "loss": round(float(torch.stack(losses).mean()), 5), "lr": rate})
            schedule.after_epoch([line["loss"] for line in history])
            if recipe.swa and epoch + 1 > recipe.swa * recipe.epochs:
                average.update_parameters(model)
            if training_data.validation:  # of the weights that would be kept now
                used = current if average.n_averaged else model
                history[-1] |= _validate(used, training_data, training_data.validation, loss, ranks)  # type: ignore[arg-type]
            if recipe.patience:
                stop_rows = training_data.stop_rows
                outputs_of = partial(training_data.samples.outputs, current.eval())
                history[-1]["stop_loss"] = _mean_loss(
                    ranks.spread(stop_rows, outputs_of), training_data, stop_rows, loss
                )
                if all(history[-1]["stop_loss"] < line["stop_loss"] for line in history[:-1]):
                    best.load_state_dict(current.state_dict())
            history[-1]["seconds"] = round(time.monotonic() - started, 3)
            if ranks.main:
                save_state(state, modules, optimizer, {"history": history})
                write_history(folder, history)
    return best.eval()


def train_head_only(model: torch.nn.Module, head_only: bool) -> None:
    """Make only the head of a Backbone trainable, or all of it; with `head_only` the rest is in eval mode, without
    gradients."""
    timm_model: Any = model.model
    head = set(timm_model.get_classifier().parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in head or not head_only)
    if head_only:
        timm_model.eval()  # batch norm statistics are not updated, and there is no stochastic depth
        timm_model.training = True  # but the head has dropout


def _forkserver_context() -> Any:
    """Start workers from a clean process. A fork of this one would inherit locks that threads of torch, CUDA or an
    engine hold at that moment, without the threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facecade.training.dataset"])
    with uninterrupted_children():
        forkserver.ensure_running()
    return context


def ema_with_warmup(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """An exponential moving average whose decay rises to `decay`, so that the first steps lose their weight quickly."""

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        updates = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))(averaged, current, count)

    return update


def _stalled(history: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Whether none of the last `patience` epochs is better than the best before them."""
    values = [line["stop_loss"] for line in history]
    return len(values) > patience and min(values[-patience:]) >= min(values[:-patience])


def _mean_loss(
    outputs: np.ndarray, training_data: TrainingData, rows: np.ndarray, loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Weighted mean loss of head outputs (n, C) for some rows (n,)."""
    target = torch.from_numpy(training_data.target[rows])
    weight = torch.from_numpy(training_data.weight[rows])
    return round(float((loss(torch.from_numpy(outputs), target) * weight).sum() / weight.sum()), 5)


def _validate(
    model: torch.nn.Module,
    training_data: TrainingData,
    validation: Validation,
    loss: Callable[[Tensor, Tensor], Tensor],
    ranks: Ranks,
) -> dict[str, float]:
    """Loss and scores on the validation rows, as `val_loss`, `val_accuracy`, …; only finite ones. Nothing of the training
    changes: the model is in eval mode, and no random number is drawn."""
    outputs_of = partial(training_data.samples.outputs, model.eval(), first_view=True)
    outputs = ranks.spread(validation.rows, outputs_of)
    values = {"loss": _mean_loss(outputs, training_data, validation.rows, loss)}
    values |= {name.replace(" ", "_"): round(float(value), 5) for name, value in validation.score(outputs).items()}
    return {f"{VALIDATION}{name}": value for name, value in values.items() if math.isfinite(value)}


class _Shown:
    """What a bar says of the training: the epoch, its loss so far, and what the last epoch scored on held-out people."""

    def __init__(self, epochs: int, history: Sequence[Mapping[str, float]]) -> None:
        self.epochs, self.history = epochs, history
        self.loss, self.read = "", 0.0

    def text(self, epoch: int, losses: Sequence[Tensor]) -> str:
        """
        Args:
            losses: of the steps of this epoch. They are read once a second: a GPU would have to finish each step first.
        """
        if time.monotonic() - self.read > 1:
            self.loss, self.read = f"loss {float(torch.stack(list(losses)).mean()):.3g}", time.monotonic()
        return " ".join(filter(None, [f"epoch {epoch + 1}/{self.epochs}", self.loss, self._validated()]))

    def _validated(self) -> str:
        scores = [(name, value) for name, value in (self.history or [{}])[-1].items() if name.startswith(VALIDATION)]
        if not scores:
            return ""
        name, value = scores[-1]
        return f"{name.replace('_', ' ').replace('accuracy', 'acc')} {value:.3g}"
