"""Losses against values worked by hand, gradient checks, and what censoring promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from base.errors import FacecadeError
from training.losses import AGE_BINS, AGE_LOSSES, CENTRE_YEARS, SPREAD_YEARS, age_loss, class_loss, years


def head_for(age: float) -> Tensor:
    """The raw output of a one-unit head that answers `age` years, [1, 1]."""
    return torch.tensor([[(age - CENTRE_YEARS) / SPREAD_YEARS]], dtype=torch.float64)


def peak_at(age: float, height: float = 30.0) -> Tensor:
    """A distribution head's output with nearly all probability at `age`, [1, bins]."""
    return (age == AGE_BINS).double()[None] * height


def test_cross_entropy_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    loss = class_loss("ce")(logits, torch.tensor([0.0, 1.0]))
    assert loss.tolist() == pytest.approx([-math.log(0.7), -math.log(0.1)], abs=1e-6)


def test_label_smoothing_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    wanted = -0.9 * math.log(0.7) - 0.1 / 3 * (math.log(0.7) + math.log(0.2) + math.log(0.1))
    assert class_loss("smooth-ce")(logits, torch.tensor([0.0])).item() == pytest.approx(wanted, abs=1e-6)


def test_years_of_both_heads() -> None:
    assert years(head_for(47.0)).item() == pytest.approx(47.0)
    assert years(peak_at(47.0)).item() == pytest.approx(47.0, abs=1e-3)
    even = torch.zeros(1, len(AGE_BINS))
    assert years(even).item() == pytest.approx(AGE_BINS.mean().item())


def test_l1_and_huber_by_hand() -> None:
    assert AGE_LOSSES["l1"](head_for(50.0), torch.tensor([44.0])).item() == pytest.approx(6 / SPREAD_YEARS)
    delta = 4 / SPREAD_YEARS
    inside, outside = 2 / SPREAD_YEARS, 10 / SPREAD_YEARS
    huber = AGE_LOSSES["huber"]
    assert huber(head_for(52.0), torch.tensor([50.0])).item() == pytest.approx(inside**2 / 2, rel=1e-5)
    assert huber(head_for(60.0), torch.tensor([50.0])).item() == pytest.approx(delta * (outside - delta / 2), rel=1e-5)


def test_label_distribution_is_least_at_the_label() -> None:
    target = torch.tensor([50.0])
    at = {age: AGE_LOSSES["dldl"](-((AGE_BINS - age) ** 2)[None] / 12.5, target).item() for age in (46.0, 50.0, 54.0)}
    assert at[50.0] < at[46.0] and at[50.0] < at[54.0]
    # a distribution equal to the wanted one costs its own entropy, that of a normal with sigma 2.5
    assert at[50.0] == pytest.approx(math.log(2.5 * math.sqrt(2 * math.pi * math.e)), abs=1e-3)


@pytest.mark.parametrize("name", ["l1", "huber"])
@pytest.mark.parametrize("beyond", [60.5, 70.0, 95.0])
def test_nothing_is_asked_above_the_cap(name: str, beyond: float) -> None:
    outputs = head_for(beyond).requires_grad_()
    loss = age_loss(name, 60.0)(outputs, torch.tensor([60.0]))
    loss.sum().backward()
    assert loss.item() == 0 and outputs.grad is not None and outputs.grad.abs().max() == 0


@pytest.mark.parametrize("name", ["l1", "huber", "dldl"])
def test_a_censored_label_still_pulls_up_from_below(name: str) -> None:
    make = peak_at if name == "dldl" else head_for
    low, high = make(45.0), make(55.0)
    loss = age_loss(name, 60.0)
    assert loss(low, torch.tensor([60.0])).item() > loss(high, torch.tensor([60.0])).item() > 0


def test_a_censored_distribution_may_lie_anywhere_above_the_cap() -> None:
    loss = age_loss("dldl", 60.0)
    assert [loss(peak_at(age), torch.tensor([60.0])).item() for age in (61.0, 70.0, 85.0)] == pytest.approx(
        [0] * 3, abs=1e-5
    )
    outputs = peak_at(75.0, 60.0).requires_grad_()
    loss(outputs, torch.tensor([60.0])).sum().backward()
    assert outputs.grad is not None and outputs.grad.abs().max() < 1e-12


def test_ages_below_the_cap_are_learned_both_ways() -> None:
    for name in ("l1", "huber"):
        outputs = head_for(70.0).requires_grad_()
        age_loss(name, 60.0)(outputs, torch.tensor([50.0])).sum().backward()
        assert outputs.grad is not None and outputs.grad.item() > 0


@pytest.mark.parametrize("cap", [None, 60.0])
@pytest.mark.parametrize("name", sorted(AGE_LOSSES))
def test_gradients_are_those_of_the_values(name: str, cap: float | None) -> None:
    torch.manual_seed(0)
    width = len(AGE_BINS) if name == "dldl" else 1
    outputs = torch.randn(4, width, dtype=torch.float32, requires_grad=True)
    target = torch.tensor([25.0, 44.0, 60.0, 71.0])
    loss = age_loss(name, cap)
    loss(outputs, target).sum().backward()
    assert outputs.grad is not None
    direction = torch.randn_like(outputs)
    step = 1e-2
    with torch.no_grad():
        rise = (loss(outputs + step * direction, target) - loss(outputs - step * direction, target)).sum() / (2 * step)
    assert (outputs.grad * direction).sum().item() == pytest.approx(rise.item(), rel=2e-2, abs=2e-2)


def test_unknown_losses_name_the_nearest() -> None:
    with pytest.raises(FacecadeError) as caught:
        age_loss("hubber", None)
    assert caught.value.hint == "did you mean huber?"
