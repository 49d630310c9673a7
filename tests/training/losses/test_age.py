"""Age losses: values computed by hand, gradients, and censoring."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from facecade.base.errors import FacecadeError
from facecade.training.heads import AGES, CENTRE_YEARS, DISTRIBUTION, ORDINAL, REGRESSION, SPREAD_YEARS, Bins
from facecade.training.losses.age import AGE_LOSSES, age_loss

TARGETS = torch.tensor([25.0, 44.0, 60.0, 71.0], dtype=torch.float64)


def regression_output(age: float) -> Tensor:
    """The output of a regression for `age`, [1, 1]."""
    return torch.tensor([[(age - CENTRE_YEARS) / SPREAD_YEARS]], dtype=torch.float64)


def peak(age: float, height: float = 30.0) -> Tensor:
    """The output of a distribution with nearly all probability at `age`, [1, ages]."""
    return (age == AGES).double()[None] * height


def ladder(age: float, height: float = 12.0) -> Tensor:
    """The output of an ordinal head that is certain of exactly `age`, [1, ages - 1]."""
    return torch.where(age >= AGES[1:], height, -height).double()[None]


def test_years_and_log_odds_of_heads() -> None:
    assert REGRESSION.years(regression_output(47.0)).item() == pytest.approx(47.0)
    assert DISTRIBUTION.years(peak(47.0)).item() == pytest.approx(47.0, abs=1e-3)
    assert DISTRIBUTION.years(torch.zeros(1, len(AGES))).item() == pytest.approx(AGES.mean().item())
    assert ORDINAL.years(ladder(47.0)).item() == pytest.approx(47.0, abs=1e-2)
    uniform = torch.zeros(1, len(AGES))
    assert DISTRIBUTION.log_odds(uniform, 60.0).item() == pytest.approx(math.log(31 / 45), abs=1e-5)
    assert ORDINAL.log_odds(ladder(47.0), 30.0).item() > 5 and ORDINAL.log_odds(ladder(47.0), 60.0).item() < -5
    half = torch.zeros(1, len(AGES) - 1)
    assert ORDINAL.log_odds(half, 17.0).item() == pytest.approx(math.log(0.25 / 0.75))  # two conditions at one half
    five = Bins((21.0, 30.0, 46.0, 58.0))
    assert five.width == 5 and five.years(30 * torch.eye(5)[2:3]).item() == pytest.approx(38.0, abs=1e-3)
    assert five.log_odds(torch.zeros(1, 5), 60.0).item() == pytest.approx(math.log(1 / 4), abs=1e-6)
    assert five.log_odds(torch.zeros(1, 5), 30.0).item() == pytest.approx(math.log(3 / 2), abs=1e-6)


def test_l1_and_huber() -> None:
    assert age_loss("l1")(regression_output(50.0), torch.tensor([44.0])).item() == pytest.approx(6 / SPREAD_YEARS)
    knee, inside, outside = 4 / SPREAD_YEARS, 2 / SPREAD_YEARS, 10 / SPREAD_YEARS
    assert age_loss("huber")(regression_output(52.0), torch.tensor([50.0])).item() == pytest.approx(
        inside**2 / 2, rel=1e-5
    )
    assert age_loss("huber")(regression_output(60.0), torch.tensor([50.0])).item() == pytest.approx(
        knee * (outside - knee / 2), rel=1e-5
    )


def test_dldl_is_smallest_at_the_label() -> None:
    loss = {
        age: age_loss("dldl")(-((AGES - age) ** 2)[None] / 12.5, torch.tensor([50.0])).item() for age in (46, 50, 54)
    }
    assert loss[50] < loss[46] and loss[50] < loss[54]
    # the cross-entropy of the label distribution with itself is the entropy of a normal with sigma 2.5
    assert loss[50] == pytest.approx(math.log(2.5 * math.sqrt(2 * math.pi * math.e)), abs=1e-3)


def test_mean_variance() -> None:
    outputs = torch.full((1, len(AGES)), -1e3, dtype=torch.float64)
    outputs[0, 25] = outputs[0, 35] = 0.0  # half at 40, half at 50: mean 45, variance 25
    loss = age_loss("mean_variance(mean=0.2, variance=0.05)")(outputs, torch.tensor([40.0]))
    assert loss.item() == pytest.approx(math.log(2) + 0.2 * 5**2 / 2 + 0.05 * 25, rel=1e-5)


def test_corn_uses_only_ages_that_the_label_decides() -> None:
    outputs = torch.zeros(1, len(AGES) - 1, dtype=torch.float64)
    # A person of 20 reaches 16..20 and not 21; later ages are not used.
    assert age_loss("corn")(outputs, torch.tensor([20.0])).item() == pytest.approx(6 * math.log(2))
    # With "at least 20", 21 is not used either.
    assert age_loss("corn", 20.0)(outputs, torch.tensor([20.0])).item() == pytest.approx(5 * math.log(2))


def test_bins_above_the_cap_are_errors() -> None:
    age_loss("bins(edges=(30, 60))", cap=60.0)
    with pytest.raises(FacecadeError, match="a bin from 70"):
        age_loss("bins(edges=(30, 60, 70))", cap=60.0)


def test_bins_are_classes() -> None:
    outputs = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]]))
    for age, p in ((20.0, 0.1), (21.0, 0.2), (29.0, 0.2), (30.0, 0.3), (57.0, 0.15), (58.0, 0.25)):
        assert age_loss("bins")(outputs, torch.tensor([age])).item() == pytest.approx(-math.log(p), abs=1e-5)
    assert age_loss("bins(edges=(30, 60))").head.width == 3


@pytest.mark.parametrize("name", ["l1", "huber"])
@pytest.mark.parametrize("predicted_age", [60.5, 70.0, 95.0])
def test_predictions_above_the_cap_cost_nothing(name: str, predicted_age: float) -> None:
    outputs = regression_output(predicted_age).requires_grad_()
    loss = age_loss(name, 60.0)(outputs, torch.tensor([60.0]))
    loss.sum().backward()
    assert loss.item() == 0 and outputs.grad is not None and outputs.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("l1", regression_output),
        ("huber", regression_output),
        ("dldl", peak),
        ("mean_variance", peak),
        ("corn", ladder),
    ],
)
def test_predictions_below_a_censored_label_cost_more(name: str, make: object) -> None:
    assert callable(make)
    loss, target = age_loss(name, 60.0), torch.tensor([60.0])
    assert loss(make(45.0), target).item() > loss(make(55.0), target).item() > 1e-3


@pytest.mark.parametrize("name", ["dldl", "mean_variance"])
def test_a_distribution_above_the_cap_costs_nothing(name: str) -> None:
    loss, target = age_loss(name, 60.0), torch.tensor([60.0])
    assert [loss(peak(age), target).item() for age in (61.0, 70.0, 85.0)] == pytest.approx([0] * 3, abs=1e-5)
    outputs = peak(75.0, 60.0).requires_grad_()
    loss(outputs, target).sum().backward()
    assert outputs.grad is not None and outputs.grad.abs().max() < 1e-12


def test_labels_below_the_cap_are_not_censored() -> None:
    for name in ("l1", "huber"):
        outputs = regression_output(70.0).requires_grad_()
        age_loss(name, 60.0)(outputs, torch.tensor([50.0])).sum().backward()
        assert outputs.grad is not None and outputs.grad.item() > 0


@pytest.mark.parametrize("cap", [None, 60.0])
@pytest.mark.parametrize("name", sorted(AGE_LOSSES))
def test_gradients_match_finite_differences(name: str, cap: float | None) -> None:
    loss = age_loss(name, cap)
    outputs = torch.randn(4, loss.head.width, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss(outputs, TARGETS.float()).sum().backward()
    assert outputs.grad is not None
    direction, step = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)), 1e-2
    with torch.no_grad():
        forward, backward = (
            loss(outputs + step * direction, TARGETS.float()),
            loss(outputs - step * direction, TARGETS.float()),
        )
    slope = (forward - backward).sum().item() / (2 * step)
    assert (outputs.grad * direction).sum().item() == pytest.approx(slope, rel=2e-2, abs=2e-2)
