"""Optimizers by timm's names, and learning-rate schedules by timm's and torch's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from facecade.base.errors import FacecadeError, unknown_name
from facecade.recipe import StageRecipe

TIMM_SCHEDULES = ("cosine", "tanh", "step", "multistep", "poly", "constant")
TORCH_SCHEDULES = ("cyclic", "onecycle", "plateau")


def make_optimizer(model: nn.Module, recipe: StageRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over a model's parameters; biases and norms are not decayed. With `layer_decay` each layer has a
    group of its own, whose `lr_scale` is its share of the rate.

    Raises:
        FacecadeError: timm has no such optimizer, or it does not take the arguments.
    """
    known = [str(name) for name in list_optimizers()]
    if recipe.optimizer not in known:
        raise unknown_name("optimizer", recipe.optimizer, known)
    fused: dict[str, Any] = {"fused": True} if recipe.optimizer in ("adam", "adamw") else {}
    arguments = {**fused, **recipe.optimizer_args}
    if recipe.layer_decay < 1:
        arguments["layer_decay"] = recipe.layer_decay
        model = getattr(
            model, "model", model
        )  # the layers are known to timm's model within; what is frozen has no gradients
    try:
        return create_optimizer_v2(model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise FacecadeError(
            f"optimizer {recipe.optimizer}: {error}", f"it was given optimizer_args = {recipe.optimizer_args}"
        ) from None


class Schedule:
    """Sets an optimizer's learning rate, step by step.

    What it does at a step depends on the step and on the losses of the epochs before, so a run that goes on from
    a checkpoint needs no state of it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: StageRecipe, batches: int) -> None:
        """
        Args:
            batches: steps in an epoch.

        Raises:
            FacecadeError: no such schedule, or it does not take the recipe's `schedule_args`.
        """
        self.name, self.optimizer = recipe.schedule, optimizer
        known = [*TIMM_SCHEDULES, *TORCH_SCHEDULES]
        if self.name not in known:
            raise unknown_name("schedule", self.name, known)
        try:
            self.scheduler = _build(optimizer, recipe, batches)
        except (TypeError, ValueError) as error:
            raise FacecadeError(
                f"schedule {self.name}: {error}", f"it was given schedule_args = {recipe.schedule_args}"
            ) from None
        self.done = 0

    def before(self, step: int) -> float:
        """Set the rate for this step, and say it; steps are asked for in order, from any one on."""
        if self.name in TIMM_SCHEDULES:
            self.scheduler.step_update(step)
        elif self.name != "plateau":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # it wants to be stepped after the optimizer
                for _ in range(step - self.done):
                    self.scheduler.step()
            self.done = step
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def after_epoch(self, losses: Sequence[float]) -> None:
        """Say the mean training loss of every epoch so far; `plateau` lowers the rate where they stall.

        The training loss, not a held-out one: a rate chosen on the fold that is scored would be a leak.
        """
        if self.name == "plateau":
            for epoch in range(self.done, len(losses)):
                self.scheduler.step(losses[epoch])
            self.done = len(losses)


def _build(optimizer: torch.optim.Optimizer, recipe: StageRecipe, batches: int) -> Any:
    steps = batches * recipe.epochs
    scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    given = {
        key: [value * scale for scale in scales]
        if key in ("max_lr", "base_lr") and isinstance(value, float | int)
        else value
        for key, value in recipe.schedule_args.items()
    }
    rates = [recipe.lr * scale for scale in scales]
    if recipe.schedule == "cyclic":  # arXiv:1506.01186
        defaults: dict[str, Any] = {
            "base_lr": [rate / 10 for rate in rates],
            "step_size_up": max(1, steps // 6),
            "cycle_momentum": False,
        }
        return torch.optim.lr_scheduler.CyclicLR(optimizer, **{"max_lr": rates, **defaults, **given})
    if recipe.schedule == "onecycle":  # arXiv:1708.07120
        defaults = {"max_lr": rates, "total_steps": steps + 1, "cycle_momentum": False}
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, **{**defaults, **given})
    if recipe.schedule == "plateau":
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **{"patience": 2, **recipe.schedule_args})
    if recipe.schedule == "constant":
        arguments: dict[str, Any] = {"sched": "step", "decay_epochs": recipe.epochs + 1}
    else:
        arguments = {
            "sched": recipe.schedule,
            "cycle_decay": 1.0,  # restarts rise to the peak, as in SGDR
            "decay_epochs": max(1, recipe.epochs // 3),  # timm's own defaults are for 300 epochs
            "decay_milestones": sorted({max(1, recipe.epochs * tenths // 10) for tenths in (6, 8)}),
        }
    arguments |= {
        "num_epochs": recipe.epochs,
        "warmup_epochs": recipe.warmup * recipe.epochs,
        "warmup_lr": recipe.lr / 1000,
        "step_on_epochs": False,
        "updates_per_epoch": batches,
    }
    scheduler, _ = create_scheduler_v2(optimizer, **{**arguments, **recipe.schedule_args})
    return scheduler
