"""Losses of age: (head, outputs [B, width], years [B], cap) → one value a sample, float32 [B].

Labels at or above `cap` say only "at least" (None where ages are exact): every loss is then right-censored, and asks
nothing of an answer above the cap.
"""

from __future__ import annotations

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
    """Predicted minus true years, zero where a censored target is exceeded."""
    residual = head.years(outputs) - target
    if cap is None:
        return residual
    return torch.where((target >= cap) & (residual > 0), torch.zeros_like(residual), residual)


def l1(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """Absolute error of the years, in units of SPREAD_YEARS."""
    return _residual(head, outputs, target, cap).abs() / SPREAD_YEARS


def huber(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None, *, knee: float = 4.0) -> Tensor:
    """Huber loss (Huber 1964) of the years, its knee at so many years, in units of SPREAD_YEARS."""
    residual = _residual(head, outputs, target, cap) / SPREAD_YEARS
    return F.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=knee / SPREAD_YEARS)


def dldl(
    head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None, *, sigma: float = 2.5, mean: float = 0.1
) -> Tensor:
    """Cross-entropy to a normal distribution of ages around the label, and `mean` × the error of the mean in
    years (DLDL-v2, arXiv:1807.01566).

    sigma: of the label's distribution in years, about what people disagree by. A censored label asks instead for
    all the probability at or above the cap (the likelihood of a right-censored observation).
    """
    ages = AGES.to(outputs.device)
    wanted = torch.softmax(-((ages - target[:, None]) ** 2) / (2 * sigma**2), -1)
    loss = -(wanted * outputs.float().log_softmax(-1)).sum(-1)
    return _censored(loss, outputs, target, cap) + mean * _residual(head, outputs, target, cap).abs()


def mean_variance(
    head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None, *, mean: float = 0.2, variance: float = 0.05
) -> Tensor:
    """Cross-entropy to the label's year, half the squared error of the mean, and the variance (Pan et al., CVPR 2018)."""
    ages = AGES.to(outputs.device)
    log_p = outputs.float().log_softmax(-1)
    year = (target - ages[0]).round().long().clamp(0, len(ages) - 1)
    loss = -log_p.gather(-1, year[:, None])[:, 0]
    p = log_p.exp()
    spread = (p * (ages - (p @ ages)[:, None]) ** 2).sum(-1)
    error = _residual(head, outputs, target, cap)
    if cap is not None:  # above the cap, a wide distribution is no fault
        spread = torch.where((target >= cap) & (error == 0), torch.zeros_like(spread), spread)
    return _censored(loss, outputs, target, cap) + mean * error**2 / 2 + variance * spread


def corn(head: AgeHead, outputs: Tensor, target: Tensor, cap: float | None) -> Tensor:
    """Conditional ordinal regression (CORN, arXiv:2111.08851): binary cross-entropy of "reaches this age, given
    that it reached the one before", summed over the ages that the label says something about."""
    ages = AGES[1:].to(outputs.device)
    reached = ages <= target[:, None]
    asked = torch.cat([torch.ones_like(reached[:, :1]), reached[:, :-1]], 1)
    if cap is not None:
        asked = asked & ((target[:, None] < cap) | (ages <= cap))
    each = F.binary_cross_entropy_with_logits(outputs.float(), reached.float(), reduction="none")
    return (each * asked).sum(-1)


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
    """A distribution's loss, with the likelihood of "at least the cap" for censored labels."""
    if cap is None:
        return loss
    beyond = outputs.float().log_softmax(-1).masked_fill(AGES.to(outputs.device) < cap, -torch.inf).logsumexp(-1)
    return torch.where(target >= cap, -beyond, loss)


AGE_LOSSES: dict[str, Callable[..., Tensor]] = {
    loss.__name__: loss for loss in (l1, huber, dldl, mean_variance, corn, bins, bins_f1)
}


@dataclass(frozen=True)
class AgeLoss:
    """A loss of a recipe, with the head that it needs."""

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
    """A loss of a recipe, as `dldl(sigma=2) + 0.1*l1`.

    Raises:
        FacecadeError: a name or option that there is not; terms that need different heads.
    """
    terms = parse(text)
    check_terms("age loss", terms, AGE_LOSSES)
    heads = {(head.width, *getattr(head, "edges", ())): head for head in map(_head, terms) if head}
    if len(heads) > 1:
        raise FacecadeError(f"'{text}' mixes losses of different heads", "l1 and huber go with any other")
    beyond = [edge for head in heads.values() for edge in getattr(head, "edges", ()) if cap is not None and edge > cap]
    if beyond:
        raise FacecadeError(
            f"'{text}' has a bin from {beyond[0]:g}, and these data tell no ages above {cap:g}", "leave that edge out"
        )
    return AgeLoss(next(iter(heads.values()), REGRESSION), terms, cap)


def is_age_loss(text: str) -> bool:
    """Whether every loss of a sum is one of age."""
    return all(term.name in AGE_LOSSES for term in parse(text))


def _head(term: Term) -> AgeHead | None:
    """The head that a loss needs; None where any will do."""
    if term.name in ("dldl", "mean_variance"):
        return DISTRIBUTION
    if term.name == "corn":
        return ORDINAL
    if term.name in ("bins", "bins_f1"):
        options: dict[str, Any] = {**options_of(AGE_LOSSES[term.name]), **term.options}
        return Bins(tuple(float(edge) for edge in options["edges"]))
    return None
