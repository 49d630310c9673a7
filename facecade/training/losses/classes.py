"""Losses of classifiers: (logits [B, C], classes [B], counts [C]) → one value a sample, float32 [B].

counts: training rows of each class. torch has cross-entropy with label smoothing; no maintained package has the
others with one value per sample (timm's are means over the batch).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from facecade.training.losses.expression import check_terms, parse

ClassLoss = Callable[[Tensor, Tensor], Tensor]


def ce(logits: Tensor, target: Tensor, counts: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy; `smoothing` of the mass spread over all classes (arXiv:1512.00567)."""
    return F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)


def weighted(logits: Tensor, target: Tensor, counts: Tensor, *, power: float = 1.0) -> Tensor:
    """Cross-entropy weighted by count^-power; the weights average 1 over the training rows."""
    return _weights(counts.clamp(min=1) ** -power, counts)[target] * F.cross_entropy(logits, target, reduction="none")


def focal(logits: Tensor, target: Tensor, counts: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (arXiv:1708.02002): cross-entropy times (1 − p)^gamma, p the true class's probability."""
    log_p = _true_log_p(logits, target)
    error = 1 - log_p.exp()
    if 0 < gamma < 1:
        error = error.clamp(min=1e-6)  # the gradient of the power is infinite at 0
    return -(error**gamma) * log_p


def new_focal(logits: Tensor, target: Tensor, counts: Tensor, *, learnt: float = 0.9, press: float = 2.0) -> Tensor:
    """Zero for samples with p above `learnt`, `press` times the cross-entropy for the others.

    A competitor's variant of the focal loss, implemented from its description: a hard threshold in place of a weight.
    """
    log_p = _true_log_p(logits, target)
    return -press * log_p * (log_p.exp() <= learnt)


def class_balanced(
    logits: Tensor, target: Tensor, counts: Tensor, *, beta: float = 0.999, gamma: float = 0.0
) -> Tensor:
    """Focal loss (cross-entropy at gamma 0) weighted by the effective number of samples (arXiv:1901.05555).

    A class of n rows weighs (1 − beta) / (1 − beta^n); the weights average 1 over the training rows.
    """
    weights = _weights((1 - beta) / (1 - beta ** counts.clamp(min=1)), counts)
    return weights[target] * focal(logits, target, counts, gamma=gamma)


def f1(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """One minus the macro-F1 of soft counts, over the classes in the batch: the same value for each sample.

    Probabilities replace decisions in the counts of hits and misses, which makes F1 differentiable (multi-label:
    arXiv:2108.10566).
    """
    p = logits.softmax(-1)
    true = F.one_hot(target, logits.shape[-1]).to(p)
    hits = (p * true).sum(0)
    score = 2 * hits / (p.sum(0) + true.sum(0)).clamp(min=1e-12)
    return (1 - score[true.sum(0) > 0].mean()).expand(len(target))


def ldam(logits: Tensor, target: Tensor, counts: Tensor, *, margin: float = 0.5, scale: float = 10.0) -> Tensor:
    """Label-distribution-aware margin (arXiv:1906.07413): the true logit must lead by margin ∝ count^(−1/4).

    The paper scales cosine logits by 30; plain logits, which these are, need less.
    """
    margins = counts.clamp(min=1) ** -0.25
    margins = margins * (margin / margins.max())
    shift = F.one_hot(target, logits.shape[-1]) * margins
    return F.cross_entropy(scale * (logits - shift), target, reduction="none") / scale


def _true_log_p(logits: Tensor, target: Tensor) -> Tensor:
    """Log-probability of the true class, [B]."""
    return logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]


def _weights(raw: Tensor, counts: Tensor) -> Tensor:
    """Class weights, scaled to average 1 over rows, so that the learning rate keeps its meaning."""
    return raw * (counts.sum() / (raw * counts).sum())


CLASS_LOSSES: dict[str, Callable[..., Tensor]] = {
    loss.__name__: loss for loss in (ce, weighted, focal, new_focal, class_balanced, f1, ldam)
}


def class_loss(text: str, counts: Tensor) -> ClassLoss:
    """The classification loss that a recipe writes, for example `0.3*ce + 0.7*f1`.

    Args:
        counts: float32 (C,), training rows of each class.

    Raises:
        FacecadeError: an unknown name or option; it names the nearest.
    """
    terms = parse(text)
    check_terms("classification loss", terms, CLASS_LOSSES)

    def total(logits: Tensor, target: Tensor) -> Tensor:
        classes, class_counts = target.long(), counts.to(logits.device)
        each = [t.weight * CLASS_LOSSES[t.name](logits, classes, class_counts, **t.options) for t in terms]
        return torch.stack(each).sum(0)

    return total
