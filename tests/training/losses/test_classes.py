"""Classification losses: values computed by hand, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from facecade.training.losses.classes import CLASS_LOSSES, class_loss

UNIFORM = torch.tensor([5.0, 5.0, 5.0])
SKEWED = torch.tensor([80.0, 15.0, 5.0])


def logits_of(*probabilities: list[float]) -> Tensor:
    return torch.log(torch.tensor(probabilities, dtype=torch.float64))


def test_cross_entropy_and_smoothing() -> None:
    logits, target = logits_of([0.7, 0.2, 0.1], [0.1, 0.1, 0.8]), torch.tensor([0.0, 1.0])
    assert class_loss("ce", UNIFORM)(logits, target).tolist() == pytest.approx([-math.log(0.7), -math.log(0.1)])
    expected = -0.9 * math.log(0.7) - 0.1 / 3 * (math.log(0.7) + math.log(0.2) + math.log(0.1))
    assert class_loss("ce(smoothing=0.1)", UNIFORM)(logits, target)[0].item() == pytest.approx(expected)


def test_weights_are_inverse_counts_and_average_one() -> None:
    logits, target = logits_of([0.5, 0.25, 0.25]).repeat(3, 1), torch.tensor([0.0, 1.0, 2.0])
    loss = class_loss("weighted", SKEWED)(logits, target)
    weights = loss / class_loss("ce", SKEWED)(logits, target)
    assert weights.tolist() == pytest.approx([100 / 3 / 80, 100 / 3 / 15, 100 / 3 / 5], rel=1e-5)
    assert (weights * SKEWED).sum().item() == pytest.approx(100, rel=1e-5)
    half = class_loss("weighted(power=0.5)", SKEWED)(logits, target) / class_loss("ce", SKEWED)(logits, target)
    assert (half[2] / half[0]).item() == pytest.approx(4, rel=1e-5)


def test_focal() -> None:
    loss = class_loss("focal", UNIFORM)(logits_of([0.7, 0.2, 0.1]), torch.tensor([0.0]))
    assert loss.item() == pytest.approx(0.3**2 * -math.log(0.7))
    assert class_loss("focal(gamma=0)", UNIFORM)(
        logits_of([0.7, 0.2, 0.1]), torch.tensor([2.0])
    ).item() == pytest.approx(-math.log(0.1))


def test_focal_has_a_finite_gradient_at_probability_1() -> None:
    """For gamma below 1, the gradient of the power is infinite where the probability rounds to 1."""
    logits = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    class_loss("focal(gamma=0.5)", UNIFORM)(logits, torch.tensor([0.0])).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_new_focal_is_zero_above_the_threshold() -> None:
    logits = logits_of([0.95, 0.03, 0.02], [0.85, 0.1, 0.05]).requires_grad_()
    loss = class_loss("new_focal(learnt=0.9, press=3)", UNIFORM)(logits, torch.tensor([0.0, 0.0]))
    assert loss.tolist() == pytest.approx([0.0, -3 * math.log(0.85)])
    loss.sum().backward()
    assert logits.grad is not None and (logits.grad[0] == 0).all() and (logits.grad[1] != 0).all()


def test_class_balanced_weights_by_effective_numbers() -> None:
    logits, target = logits_of([0.5, 0.25, 0.25]).repeat(2, 1), torch.tensor([0.0, 2.0])
    loss = class_loss("class_balanced(beta=0.9)", SKEWED)(logits, target)
    raw = [0.1 / (1 - 0.9**n) for n in (80, 15, 5)]
    scale = 100 / (raw[0] * 80 + raw[1] * 15 + raw[2] * 5)
    assert loss.tolist() == pytest.approx([-raw[0] * scale * math.log(0.5), -raw[2] * scale * math.log(0.25)], rel=1e-5)


def test_soft_f1() -> None:
    logits, target = logits_of([0.8, 0.1, 0.1], [0.3, 0.6, 0.1]), torch.tensor([0.0, 1.0])
    first, second = 2 * 0.8 / (1.1 + 1), 2 * 0.6 / (0.7 + 1)  # the third class is not in the batch
    loss = class_loss("f1", UNIFORM)(logits, target)
    assert loss.tolist() == pytest.approx([1 - (first + second) / 2] * 2)
    assert class_loss("f1", UNIFORM)(100 * torch.eye(3), torch.tensor([0.0, 1.0, 2.0])).max().item() == pytest.approx(0)


def test_ldam_has_larger_margins_for_rare_classes() -> None:
    counts = torch.tensor([16.0, 1.0])  # fourth roots 2 and 1: margins 0.25 and 0.5
    loss = class_loss("ldam(margin=0.5, scale=1)", counts)
    logits = torch.zeros(2, 2)
    expected = [math.log(1 + math.exp(0.25)), math.log(1 + math.exp(0.5))]
    assert loss(logits, torch.tensor([0.0, 1.0])).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(CLASS_LOSSES))
def test_gradients_match_finite_differences(name: str) -> None:
    loss, target = class_loss(name, SKEWED.double()), torch.tensor([0.0, 1.0, 2.0, 0.0])
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits,))
    assert loss(logits, target).shape == (4,)
