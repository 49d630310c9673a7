"""Losses of age: (head, outputs [B, width], years [B], cap) → one value a sample, float32 [B].

Labels at or above `cap` mean "at least `cap`" (None: all ages are exact): every loss is then right-censored, and
predictions above the cap cost nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facecade.base.errors import FacecadeError
from facecade.training.heads import AGES, DISTRIBUTION, ORDINAL, REGRESSION, SPREAD_YEARS, AgeHead, Bins
from facecade.training.losses.classes import f1
from facecade.training.losses.expression import Term, check_terms, options_of, parse


def _residual(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """Predicted minus true years; zero where the prediction exceeds a censored target."""
    residual = head.years(outputs) - target
    if cap is None:
        return residual
    return torch.where((target >= cap) & (residual > 0), torch.zeros_like(residual), residual)


def l1(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """Absolute error of the years, in units of SPREAD_YEARS."""
    return _residual(head, outputs, target, cap).abs() / SPREAD_YEARS


def huber(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None, *, knee: float = 4.0) -> Tensor:
    """Huber loss (Huber 1964) of the years, in units of SPREAD_YEARS; `knee` in years."""
    residual = _residual(head, outputs, target, cap) / SPREAD_YEARS
    return F.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=knee / SPREAD_YEARS)


def dldl(
    head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None, *, sigma: float = 2.5, mean: float = 0.1
) -> Tensor:
    """Cross-entropy to a normal distribution of ages around the label, plus `mean` × the absolute error of the mean
    in years (DLDL-v2, arXiv:1807.01566).

    sigma: of the label distribution, in years; about as much as people disagree. For a censored label, the
    cross-entropy is −log of the probability at or above the cap (the likelihood of a right-censored observation).
    """
    ages = AGES.to(outputs.device)
    label_distribution = torch.softmax(-((ages - target[:, None]) ** 2) / (2 * sigma**2), -1)
    loss = -(label_distribution * outputs.float().log_softmax(-1)).sum(-1)
    return _censored(loss, outputs, target, cap) + mean * _residual(head, outputs, target, cap).abs()


def mean_variance(
    head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None, *, mean: float = 0.2, variance: float = 0.05
) -> Tensor:
    """Cross-entropy to the label's year, half the squared error of the mean, the variance (Pan et al., CVPR 2018)."""
    ages = AGES.to(outputs.device)
    log_p = outputs.float().log_softmax(-1)
    year = (target - ages[0]).round().long().clamp(0, len(ages) - 1)
    loss = -log_p.gather(-1, year[:, None])[:, 0]
    p = log_p.exp()
    var = (p * (ages - (p @ ages)[:, None]) ** 2).sum(-1)
    error = _residual(head, outputs, target, cap)
    if cap is not None:  # above the cap, variance costs nothing
        var = torch.where((target >= cap) & (error == 0), torch.zeros_like(var), var)
    return _censored(loss, outputs, target, cap) + mean * error**2 / 2 + variance * var


def corn(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """Conditional ordinal regression (CORN, arXiv:2111.08851): binary cross-entropy of "reaches this age, given
    that the age before is reached", summed over the ages for which the label decides this."""
    ages = AGES[1:].to(outputs.device)
    reached = ages <= target[:, None]
    used = torch.cat([torch.ones_like(reached[:, :1]), reached[:, :-1]], 1)
    if cap is not None:
        used = used & ((target[:, None] < cap) | (ages <= cap))
    each = F.binary_cross_entropy_with_logits(outputs.float(), reached.float(), reduction="none")
    return (each * used).sum(-1)


def bins(
    head: AgeHead,
    outputs: Tensor,
    target: Tensor,
    cap: float | None,
    *,
    edges: tuple[float, ...] = (21.0, 30.0, 46.0, 58.0),
    smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy over age bins that begin at `edges`; the default five merge into the bands <30, 30-57, >=58."""
    return F.cross_entropy(outputs.float(), _bin(target, edges), reduction="none", label_smoothing=smoothing)


def bins_f1(
    head: AgeHead,
    outputs: Tensor,
    target: Tensor,
    cap: float | None,
    *,
    edges: tuple[float, ...] = (21.0, 30.0, 46.0, 58.0),
) -> Tensor:
    """Soft macro-F1 over the same bins (`training.losses.classes.f1`)."""
    return f1(outputs.float(), _bin(target, edges), torch.ones(len(edges) + 1))


def _bin(target: Tensor, edges: tuple[float, ...]) -> Tensor:
    return torch.bucketize(target, torch.tensor(edges, device=target.device, dtype=target.dtype), right=True)


def _censored(loss: Tensor, outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """The loss of a distribution; for censored labels −log P(age ≥ cap)."""
    if cap is None:
        return loss
    log_p = outputs.float().log_softmax(-1).masked_fill(AGES.to(outputs.device) < cap, -torch.inf).logsumexp(-1)
    return torch.where(target >= cap, -log_p, loss)


AGE_LOSSES: dict[str, Callable[..., Tensor]] = {
    loss.__name__: loss for loss in (l1, huber, dldl, mean_variance, corn, bins, bins_f1)
}


@dataclass(frozen=True)
class AgeLoss:
    """An age loss from a recipe, with the head that it needs."""

    head: AgeHead
    terms: Sequence[Term]
    cap: float | None

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """(outputs [B, width], years [B]) → [B]."""
        each = [
            term.weight * AGE_LOSSES[term.name](self.head, outputs, target, self.cap, **term.options)
            for term in self.terms
        ]
        return torch.stack(each).sum(0)


def age_loss(text: str, cap: float | None = None) -> AgeLoss:
    """The age loss that a recipe writes, for example `dldl(sigma=2) + 0.1*l1`.

    Raises:
        FacecadeError: an unknown name or option; terms that need different heads.
    """
    terms = parse(text)
    check_terms("age loss", terms, AGE_LOSSES)
    heads = {(head.width, *getattr(head, "edges", ())): head for head in map(_head, terms) if head}
    if len(heads) > 1:
        raise FacecadeError(f"'{text}' mixes losses of different heads", "l1 and huber combine with any other")
    beyond = [edge for head in heads.values() for edge in getattr(head, "edges", ()) if cap is not None and edge > cap]
    if beyond:
        raise FacecadeError(
            f"'{text}' has a bin from {beyond[0]:g}, but ages in this dataset are censored at {cap:g}",
            "remove that edge",
        )
    return AgeLoss(next(iter(heads.values()), REGRESSION), terms, cap)


def is_age_loss(text: str) -> bool:
    """Whether every term of a sum is an age loss."""
    return all(term.name in AGE_LOSSES for term in parse(text))


def _head(term: Term) -> AgeHead | None:
    """The head that a loss needs; None if it works with any."""
    if term.name in ("dldl", "mean_variance"):
        return DISTRIBUTION
    if term.name == "corn":
        return ORDINAL
    if term.name in ("bins", "bins_f1"):
        options: dict[str, Any] = {**options_of(AGE_LOSSES[term.name]), **term.options}
        edges = tuple(float(edge) for edge in options["edges"])
        if not edges or any(low >= high for low, high in itertools.pairwise(edges)):
            raise FacecadeError(f"age loss {term.name}: its edges do not ascend", "write as edges=(21, 30, 46, 58)")
        return Bins(edges)
    return None
