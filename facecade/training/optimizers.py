"""Optimizers of timm, and learning-rate schedules of timm and torch, by name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from facecade.base.errors import FacecadeError, excerpt, first_line, unknown_name
from facecade.recipe import StageRecipe

TIMM_SCHEDULES = ("cosine", "tanh", "step", "multistep", "poly", "constant")
TORCH_SCHEDULES = ("cyclic", "onecycle", "plateau")


def make_optimizer(model: nn.Module, recipe: StageRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer for a model's parameters; biases and norms have no weight decay. With `layer_decay`, each
    layer has its own parameter group, whose `lr_scale` is its share of the learning rate.

    Raises:
        FacecadeError: timm has no such optimizer, or it does not accept the arguments.
    """
    known = [str(name) for name in list_optimizers()]
    if recipe.optimizer not in known:
        raise unknown_name("optimizer", recipe.optimizer, known)
    fused: dict[str, Any] = {"fused": True} if recipe.optimizer in ("adam", "adamw") else {}
    arguments = {**fused, **recipe.optimizer_args}
    if recipe.layer_decay < 1:
        arguments["layer_decay"] = recipe.layer_decay
        # timm's own model knows its layers; frozen parameters require no gradient and are left out
        model = getattr(model, "model", model)
    try:
        return create_optimizer_v2(model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **arguments)
    except Exception as error:  # each optimizer has its own
        raise FacecadeError(
            f"optimizer {recipe.optimizer}: {first_line(error)}",
            f"the recipe has optimizer_args = {excerpt(recipe.optimizer_args)}",
        ) from None


class Schedule:
    """Sets an optimizer's learning rate for each step.

    The rate depends only on the step and on the losses of the epochs before, so a checkpoint needs no state of it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: StageRecipe, batches: int) -> None:
        """
        Args:
            batches: steps in an epoch.

        Raises:
            FacecadeError: no such schedule, or it does not accept the recipe's `schedule_args`.
        """
        self.name, self.optimizer = recipe.schedule, optimizer
        known = [*TIMM_SCHEDULES, *TORCH_SCHEDULES]
        if self.name not in known:
            raise unknown_name("schedule", self.name, known)
        self.hint = f"the recipe has schedule_args = {excerpt(recipe.schedule_args)}"
        try:
            self.scheduler = _build(optimizer, recipe, batches)
        except Exception as error:  # each schedule has its own
            raise FacecadeError(f"schedule {self.name}: {first_line(error)}", self.hint) from None
        self.position = 0

    def require_rates(self) -> None:
        """Go through the first steps; raises FacecadeError if the rates are no positive numbers."""
        try:
            rates = [self.set_rate(step) for step in range(3)]
            self.after_epoch([1.0, 1.0])
        except Exception as error:  # each schedule has its own
            raise FacecadeError(f"schedule {self.name}: {first_line(error)}", self.hint) from None
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise FacecadeError(f"schedule {self.name}: its rates are {rates}", self.hint)

    def set_rate(self, step: int) -> float:
        """Set and return the rate of this step; call it in order of steps, starting at any one."""
        if self.name in TIMM_SCHEDULES:
            self.scheduler.step_update(step)
        elif self.name != "plateau":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch expects optimizer.step() first
                for _ in range(step - self.position):
                    self.scheduler.step()
            self.position = step
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def after_epoch(self, losses: Sequence[float]) -> None:
        """Call with the mean training loss of every epoch so far; `plateau` lowers the rate when they stall.

        It is the training loss: a rate chosen on the held-out fold, which is scored, would be a leak.
        """
        if self.name == "plateau":
            for epoch in range(self.position, len(losses)):
                self.scheduler.step(losses[epoch])
            self.position = len(losses)


def _build(optimizer: torch.optim.Optimizer, recipe: StageRecipe, batches: int) -> Any:
    steps = batches * recipe.epochs
    scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    schedule_args = {
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
        return torch.optim.lr_scheduler.CyclicLR(optimizer, **{"max_lr": rates, **defaults, **schedule_args})
    if recipe.schedule == "onecycle":  # arXiv:1708.07120
        defaults = {"max_lr": rates, "total_steps": steps + 1, "cycle_momentum": False}
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, **{**defaults, **schedule_args})
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
            "decay_epochs": max(1, recipe.epochs // 3),  # timm's default is for 300 epochs
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
