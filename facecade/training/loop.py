"""The training loop: plain torch, one function."""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from facecade.base.progress import Bar, note
from facecade.base.seeding import derive
from facecade.recipe import StageRecipe
from facecade.training.checkpoint import load_state, save_state
from facecade.training.dataset import Shown
from facecade.training.mixing import mean_loss, mix
from facecade.training.optimizers import Schedule, make_optimizer
from facecade.training.sampling import epoch_rows
from facecade.training.tracking import keep_history

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from. Arrays are over the rows of the sample table, N of them.

    rows: int64 (n,), the rows that teach; stop_rows: int64 (m,), those that early stopping watches. target: float32 (N,) or (N, T).
    weight: float32 (N,), of each row in the loss. person: (N,), stratum: int64 (N,), old: bool (N,), for
    sampling. shown: what the model is shown of each row.
    """

    rows: np.ndarray
    stop_rows: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    person: np.ndarray
    stratum: np.ndarray
    old: np.ndarray
    shown: Shown


class _Epoch(Dataset[tuple[np.ndarray, int]]):
    """One epoch's images, augmented by seeds of their own: workers cannot change them."""

    def __init__(self, shown: Shown, rows: np.ndarray, seed: int) -> None:
        self.shown, self.rows, self.seed = shown, rows, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        row = int(self.rows[place])
        return self.shown.sample(row, derive(self.seed, place)), row


def _collate(items: Sequence[tuple[np.ndarray, int]]) -> tuple[Tensor, np.ndarray]:
    return torch.from_numpy(np.stack([photo for photo, _ in items])), np.array([row for _, row in items])


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
) -> Model:
    """Train `model`, epoch by epoch, leaving a checkpoint at `state` after each.

    Where `state` exists, training goes on from it, to the same weights as an unbroken run: every
    random number is drawn from a stream named by seed and epoch.

    Args:
        model: what `lessons` shows → (embedding [B, D], outputs [B, C]).
        loss: (outputs [B, C], target [B] or [B, T]) → [B].
        folder: where the learning curve is kept (training/tracking.py).
        workers: processes that augment; 0 = this one.
        compiled: by `torch.compile`, which takes a while before the first step, rounds otherwise and draws other random
            numbers for dropout.
        autocast: forward and backward in bf16 where torch's autocast has it so; weights and loss stay in float32.

    Returns:
        The model to keep, in eval mode: averaged weights where the recipe asks for them.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, recipe)
    # Without a function of ours torch averages evenly, which is what SWA asks for.
    averaging = ema_with_warmup(recipe.ema) if not recipe.swa else None
    average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    current: Model = average.module if recipe.ema or recipe.swa else model  # type: ignore[assignment]
    best = copy.deepcopy(model) if recipe.patience else current
    modules: dict[str, torch.nn.Module] = {"model": model, "average": average}
    if recipe.patience:
        modules["best"] = best
    lines: list[dict[str, float]] = load_state(state, modules, optimizer)["history"] if state.exists() else []

    target = torch.from_numpy(training_data.target).to(device)
    weight = torch.from_numpy(training_data.weight).to(device)
    old = torch.from_numpy(training_data.old)

    def rows_of(epoch: int) -> np.ndarray:
        return epoch_rows(
            training_data.rows, training_data.person, training_data.stratum, training_data.old, recipe, seed, epoch
        )

    batches = max(1, len(rows_of(0)) // recipe.batch_size)
    schedule = Schedule(optimizer, recipe, batches)
    schedule.after_epoch([line["loss"] for line in lines])
    forward: Callable[..., tuple[Tensor, Tensor]] = torch.compile(model) if compiled else model
    with Bar(title, batches * recipe.batch_size * recipe.epochs, "images") as bar:
        begun = len(lines)
        bar.advance(batches * recipe.batch_size * begun)
        for epoch in range(begun, recipe.epochs):
            if recipe.patience and _stalled(lines, recipe.patience):
                break
            began = time.monotonic()
            torch.manual_seed(derive(seed, "torch", epoch))  # dropout and stochastic depth
            data = _Epoch(training_data.shown, rows_of(epoch), derive(seed, "augment", epoch))
            loader = DataLoader(
                data,
                recipe.batch_size,
                drop_last=len(data) >= recipe.batch_size,
                collate_fn=_collate,
                num_workers=workers,
                multiprocessing_context=_clean_processes() if workers else None,
                pin_memory=device.type == "cuda",
            )
            random = np.random.default_rng(derive(seed, "mix", epoch))
            model.train()
            if recipe.frozen_epochs:
                train_head_only(model, epoch < recipe.frozen_epochs)
            losses = []
            for step, (images, rows) in enumerate(loader, start=epoch * batches):
                rate = schedule.before(step)
                index = torch.from_numpy(rows).to(device, non_blocking=True)
                shown = images.to(device, non_blocking=True)
                mixture = mix(shown, old[torch.from_numpy(rows)] | (not recipe.mix_only_old), recipe, random)
                with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    _, outputs = forward(mixture.images if mixture else shown)
                mean = mean_loss(loss, outputs.float(), target[index], weight[index], mixture)
                mean.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
                optimizer.step()
                optimizer.zero_grad()
                if recipe.ema and not recipe.swa:
                    average.update_parameters(model)
                losses.append(mean.detach())
                if compiled and epoch == begun and len(losses) == 1:
                    note(f"{title}: compiled within {time.monotonic() - began:.0f} s")
                bar.advance(len(rows), f"epoch {epoch + 1}/{recipe.epochs}")
            lines.append({"epoch": epoch + 1, "loss": round(float(torch.stack(losses).mean()), 5), "lr": rate})
            schedule.after_epoch([line["loss"] for line in lines])
            if recipe.swa and epoch + 1 > recipe.swa * recipe.epochs:
                average.update_parameters(model)
            if recipe.patience:
                lines[-1]["stop_loss"] = _stop_loss(current, training_data, loss)
                if all(lines[-1]["stop_loss"] < line["stop_loss"] for line in lines[:-1]):
                    best.load_state_dict(current.state_dict())
            lines[-1]["seconds"] = round(time.monotonic() - began, 3)
            save_state(state, modules, optimizer, {"history": lines})
            keep_history(folder, lines)
    return best.eval()


def train_head_only(model: torch.nn.Module, alone: bool) -> None:
    """Whether nothing but a Backbone's head learns: what comes before it is as in eval mode, and gets no gradients."""
    timm_model: Any = model.model
    head = set(timm_model.get_classifier().parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in head or not alone)
    if alone:
        timm_model.eval()  # statistics of batch norms, and stochastic depth, stay out of it
        timm_model.training = True  # and the head's dropout does not


def _clean_processes() -> Any:
    """Where workers come from: a process that has run nothing yet. A fork of this one would have locks that threads (torch's,
    CUDA's, an engine's) held at that moment, and none of the threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facecade.training.dataset"])
    return context


def ema_with_warmup(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """An exponential moving average whose decay rises to `decay`: the first steps are soon forgotten."""

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        seen = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + seen) / (10 + seen)))(averaged, current, count)

    return update


def _stalled(lines: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than the best before them."""
    values = [line["stop_loss"] for line in lines]
    return len(values) > patience and min(values[-patience:]) >= min(values[:-patience])


def _stop_loss(model: torch.nn.Module, training_data: TrainingData, loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Mean loss on the rows that early stopping watches."""
    outputs = torch.from_numpy(training_data.shown.outputs(model.eval(), training_data.stop_rows))
    target = torch.from_numpy(training_data.target[training_data.stop_rows])
    weight = torch.from_numpy(training_data.weight[training_data.stop_rows])
    return round(float((loss(outputs, target) * weight).sum() / weight.sum()), 5)
