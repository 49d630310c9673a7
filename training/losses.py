"""Losses by name: (outputs, target) → one value a sample, float32 [B].

Classifiers get logits [B, C] and class numbers [B]; age losses get the head's outputs and ages in
years [B], with `cap` the age from which the data say only "at least" (None where ages are exact).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from base.errors import unknown_name

CENTRE_YEARS, SPREAD_YEARS = 38.0, 13.0
"""A regressor's raw output is years in these units, so that a fresh head starts near the truth."""

AGE_BINS = torch.arange(15.0, 91.0)
"""Ages that a distribution head spreads its probability over, in years."""


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy."""
    return F.cross_entropy(logits, target.long(), reduction="none")


def smooth_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with 0.1 of the mass spread over all classes (arXiv:1512.00567)."""
    return F.cross_entropy(logits, target.long(), reduction="none", label_smoothing=0.1)


def years(outputs: Tensor) -> Tensor:
    """The age in years [B] that a head answers: one unit is a regression, more a distribution."""
    if outputs.shape[-1] == 1:
        return outputs[..., 0].float() * SPREAD_YEARS + CENTRE_YEARS
    return outputs.float().softmax(-1) @ AGE_BINS.to(outputs.device)


def _residual(outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """Predicted minus true years, zero where a censored target is exceeded."""
    residual = years(outputs) - target
    if cap is None:
        return residual
    return torch.where((target >= cap) & (residual > 0), torch.zeros_like(residual), residual)


def l1(outputs: Tensor, target: Tensor, cap: float | None = None) -> Tensor:
    """Absolute error in years, right-censored at `cap`."""
    return _residual(outputs, target, cap).abs() / SPREAD_YEARS


def huber(outputs: Tensor, target: Tensor, cap: float | None = None) -> Tensor:
    """Huber loss of years with its knee at 4 years (Huber 1964), right-censored at `cap`."""
    residual = _residual(outputs, target, cap) / SPREAD_YEARS
    return F.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=4 / SPREAD_YEARS)


def label_distribution(outputs: Tensor, target: Tensor, cap: float | None = None) -> Tensor:
    """Cross-entropy to a Gaussian over ages around the label, plus L1 of the mean (DLDL-v2, arXiv:1807.01566).

    A censored target asks instead for all the probability at or above the cap (the likelihood of a
    right-censored observation).
    """
    bins = AGE_BINS.to(outputs.device)
    log_p = outputs.float().log_softmax(-1)
    wanted = torch.softmax(-((bins - target[:, None]) ** 2) / (2 * LABEL_SIGMA**2), -1)
    loss = -(wanted * log_p).sum(-1)
    if cap is not None:
        beyond = log_p.masked_fill(bins < cap, -torch.inf).logsumexp(-1)
        loss = torch.where(target >= cap, -beyond, loss)
    return loss + _residual(outputs, target, cap).abs() / 10


LABEL_SIGMA = 2.5
"""Standard deviation of a label's distribution, in years: about what people disagree by."""

CLASS_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "smooth-ce": smooth_cross_entropy}
AGE_LOSSES: dict[str, Callable[..., Tensor]] = {"l1": l1, "huber": huber, "dldl": label_distribution}


def class_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A classifier's loss by name; raises FacecadeError naming the nearest."""
    if name not in CLASS_LOSSES:
        raise unknown_name("classification loss", name, CLASS_LOSSES)
    return CLASS_LOSSES[name]


def age_loss(name: str, cap: float | None) -> Callable[[Tensor, Tensor], Tensor]:
    """An age loss by name with its cap bound; raises FacecadeError naming the nearest."""
    if name not in AGE_LOSSES:
        raise unknown_name("age loss", name, AGE_LOSSES)
    loss = AGE_LOSSES[name]
    return lambda outputs, target: loss(outputs, target, cap)
