"""Age losses against values worked by hand, gradient checks, and what censoring promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from facecade.base.errors import FacecadeError
from facecade.training.heads import AGES, CENTRE_YEARS, DISTRIBUTION, ORDINAL, REGRESSION, SPREAD_YEARS, Bins
from facecade.training.losses.age import AGE_LOSSES, age_loss

TARGETS = torch.tensor([25.0, 44.0, 60.0, 71.0], dtype=torch.float64)


def number(age: float) -> Tensor:
    """A regression's output that answers `age`, [1, 1]."""
    return torch.tensor([[(age - CENTRE_YEARS) / SPREAD_YEARS]], dtype=torch.float64)


def peak(age: float, height: float = 30.0) -> Tensor:
    """A distribution's output with nearly all probability at `age`, [1, ages]."""
    return (age == AGES).double()[None] * height


def ladder(age: float, height: float = 12.0) -> Tensor:
    """An ordinal head's output that is sure of reaching `age` and no more, [1, ages - 1]."""
    return torch.where(age >= AGES[1:], height, -height).double()[None]


def test_heads_say_years_and_odds() -> None:
    assert REGRESSION.years(number(47.0)).item() == pytest.approx(47.0)
    assert DISTRIBUTION.years(peak(47.0)).item() == pytest.approx(47.0, abs=1e-3)
    assert DISTRIBUTION.years(torch.zeros(1, len(AGES))).item() == pytest.approx(AGES.mean().item())
    assert ORDINAL.years(ladder(47.0)).item() == pytest.approx(47.0, abs=1e-2)
    even = torch.zeros(1, len(AGES))
    assert DISTRIBUTION.log_odds(even, 60.0).item() == pytest.approx(math.log(31 / 45), abs=1e-5)
    assert ORDINAL.log_odds(ladder(47.0), 30.0).item() > 5 and ORDINAL.log_odds(ladder(47.0), 60.0).item() < -5
    half = torch.zeros(1, len(AGES) - 1)
    assert ORDINAL.log_odds(half, 17.0).item() == pytest.approx(math.log(0.25 / 0.75))  # two conditions at one half
    five = Bins((21.0, 30.0, 46.0, 58.0))
    assert five.width == 5 and five.years(30 * torch.eye(5)[2:3]).item() == pytest.approx(38.0, abs=1e-3)
    assert five.log_odds(torch.zeros(1, 5), 60.0).item() == pytest.approx(math.log(1 / 4), abs=1e-6)
    assert five.log_odds(torch.zeros(1, 5), 30.0).item() == pytest.approx(math.log(3 / 2), abs=1e-6)


def test_l1_and_huber() -> None:
    assert age_loss("l1")(number(50.0), torch.tensor([44.0])).item() == pytest.approx(6 / SPREAD_YEARS)
    knee, inside, outside = 4 / SPREAD_YEARS, 2 / SPREAD_YEARS, 10 / SPREAD_YEARS
    assert age_loss("huber")(number(52.0), torch.tensor([50.0])).item() == pytest.approx(inside**2 / 2, rel=1e-5)
    assert age_loss("huber")(number(60.0), torch.tensor([50.0])).item() == pytest.approx(
        knee * (outside - knee / 2), rel=1e-5
    )


def test_label_distribution_is_least_at_the_label() -> None:
    at = {age: age_loss("dldl")(-((AGES - age) ** 2)[None] / 12.5, torch.tensor([50.0])).item() for age in (46, 50, 54)}
    assert at[50] < at[46] and at[50] < at[54]
    # a distribution equal to the wanted one costs its own entropy, that of a normal with sigma 2.5
    assert at[50] == pytest.approx(math.log(2.5 * math.sqrt(2 * math.pi * math.e)), abs=1e-3)


def test_mean_variance() -> None:
    outputs = torch.full((1, len(AGES)), -1e3, dtype=torch.float64)
    outputs[0, 25] = outputs[0, 35] = 0.0  # half at 40, half at 50: mean 45, variance 25
    loss = age_loss("mean_variance(mean=0.2, variance=0.05)")(outputs, torch.tensor([40.0]))
    assert loss.item() == pytest.approx(math.log(2) + 0.2 * 5**2 / 2 + 0.05 * 25, rel=1e-5)


def test_corn_asks_only_what_its_conditions_allow() -> None:
    outputs = torch.zeros(1, len(AGES) - 1, dtype=torch.float64)
    # A person of 20 passes the steps to 16..20 and fails the one to 21; the later ones are not asked.
    assert age_loss("corn")(outputs, torch.tensor([20.0])).item() == pytest.approx(6 * math.log(2))
    # Of "at least 20" the step to 21 is not asked either.
    assert age_loss("corn", 20.0)(outputs, torch.tensor([20.0])).item() == pytest.approx(5 * math.log(2))


def test_bins_above_the_cap_are_refused() -> None:
    age_loss("bins(edges=(30, 60))", cap=60.0)
    with pytest.raises(FacecadeError, match="a bin from 70"):
        age_loss("bins(edges=(30, 60, 70))", cap=60.0)


def test_bins_are_classes() -> None:
    outputs = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]]))
    for age, p in ((20.0, 0.1), (21.0, 0.2), (29.0, 0.2), (30.0, 0.3), (57.0, 0.15), (58.0, 0.25)):
        assert age_loss("bins")(outputs, torch.tensor([age])).item() == pytest.approx(-math.log(p), abs=1e-5)
    assert age_loss("bins(edges=(30, 60))").head.width == 3


@pytest.mark.parametrize("name", ["l1", "huber"])
@pytest.mark.parametrize("beyond", [60.5, 70.0, 95.0])
def test_nothing_is_asked_above_the_cap(name: str, beyond: float) -> None:
    outputs = number(beyond).requires_grad_()
    loss = age_loss(name, 60.0)(outputs, torch.tensor([60.0]))
    loss.sum().backward()
    assert loss.item() == 0 and outputs.grad is not None and outputs.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "make"),
    [("l1", number), ("huber", number), ("dldl", peak), ("mean_variance", peak), ("corn", ladder)],
)
def test_a_censored_label_still_pulls_up_from_below(name: str, make: object) -> None:
    assert callable(make)
    loss, target = age_loss(name, 60.0), torch.tensor([60.0])
    assert loss(make(45.0), target).item() > loss(make(55.0), target).item() > 1e-3


@pytest.mark.parametrize("name", ["dldl", "mean_variance"])
def test_a_censored_distribution_may_lie_anywhere_above_the_cap(name: str) -> None:
    loss, target = age_loss(name, 60.0), torch.tensor([60.0])
    assert [loss(peak(age), target).item() for age in (61.0, 70.0, 85.0)] == pytest.approx([0] * 3, abs=1e-5)
    outputs = peak(75.0, 60.0).requires_grad_()
    loss(outputs, target).sum().backward()
    assert outputs.grad is not None and outputs.grad.abs().max() < 1e-12


def test_ages_below_the_cap_are_learned_both_ways() -> None:
    for name in ("l1", "huber"):
        outputs = number(70.0).requires_grad_()
        age_loss(name, 60.0)(outputs, torch.tensor([50.0])).sum().backward()
        assert outputs.grad is not None and outputs.grad.item() > 0


@pytest.mark.parametrize("cap", [None, 60.0])
@pytest.mark.parametrize("name", sorted(AGE_LOSSES))
def test_gradients_are_those_of_the_values(name: str, cap: float | None) -> None:
    loss = age_loss(name, cap)
    outputs = torch.randn(4, loss.head.width, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss(outputs, TARGETS.float()).sum().backward()
    assert outputs.grad is not None
    direction, step = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)), 1e-2
    with torch.no_grad():
        ahead, behind = (
            loss(outputs + step * direction, TARGETS.float()),
            loss(outputs - step * direction, TARGETS.float()),
        )
    rise = (ahead - behind).sum().item() / (2 * step)
    assert (outputs.grad * direction).sum().item() == pytest.approx(rise, rel=2e-2, abs=2e-2)
