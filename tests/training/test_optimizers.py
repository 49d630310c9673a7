"""Optimizers and schedules by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from base.errors import FacecadeError
from recipe import StageRecipe
from training.optimizers import TIMM_SCHEDULES, TORCH_SCHEDULES, Schedule, make_optimizer

BATCHES = 10


def rates(epochs: int = 10, losses: list[float] | None = None, begin: int = 0, **settings: Any) -> list[float]:
    """The learning rate of every step of a run whose epochs had such losses; from a step on, as after a resume."""
    recipe = StageRecipe.model_validate({"backbone": "x", "lr": 1.0, "epochs": epochs, **settings})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule(optimizer, recipe, BATCHES)
    losses = losses or [1.0] * epochs
    schedule.after_epoch(losses[: begin // BATCHES])
    result = []
    for step in range(begin, epochs * BATCHES):
        schedule.before(step)
        result.append(optimizer.param_groups[0]["lr"])
        if (step + 1) % BATCHES == 0:
            schedule.after_epoch(losses[: (step + 1) // BATCHES])
    return result


def test_cosine_warms_up_and_falls_to_zero() -> None:
    said = rates(warmup=0.1)
    assert said[0] < 0.01 and said[5] == pytest.approx(0.5, abs=0.01) and max(said) == pytest.approx(1.0, abs=0.03)
    assert said[50] == pytest.approx(0.5, abs=0.01) and said[-1] < 1e-3
    assert rates(warmup=0.0)[0] == 1.0


def test_warm_restarts_rise_again() -> None:
    arguments = {"num_epochs": 5, "cycle_limit": 9, "min_lr": 0.1}
    said = rates(warmup=0.0, schedule_args=arguments)
    assert said[0] == said[50] == 1.0 and said[49] == pytest.approx(0.1, abs=0.01)
    decayed = rates(warmup=0.0, schedule_args={**arguments, "cycle_decay": 0.5})
    assert decayed[50] == pytest.approx(0.5, abs=0.01)


def test_step_and_plateau_lower_the_rate() -> None:
    said = rates(schedule="step", warmup=0.0, schedule_args={"decay_epochs": 3, "decay_rate": 0.1})
    assert said[29] == 1.0 and said[30] == pytest.approx(0.1) and said[60] == pytest.approx(0.01)
    stalled = rates(schedule="plateau", warmup=0.0, losses=[1.0] * 10)
    falling = rates(schedule="plateau", warmup=0.0, losses=[1.0 / (i + 1) for i in range(10)])
    assert stalled[-1] < 0.5 and falling == [1.0] * 100
    assert rates(schedule="constant", warmup=0.0) == [1.0] * 100


@pytest.mark.parametrize("name", ["step", "multistep"])
def test_steps_fall_within_the_recipes_epochs(name: str) -> None:
    assert len({round(rate, 6) for rate in rates(schedule=name, warmup=0.0)}) > 2


def test_cycles() -> None:
    cyclic = rates(schedule="cyclic")
    assert cyclic[0] == pytest.approx(0.1) and max(cyclic) == pytest.approx(1.0) and cyclic[32] < 0.2
    one = rates(schedule="onecycle")
    assert one[0] == pytest.approx(1 / 25) and max(one) == pytest.approx(1.0, abs=0.01) and one[-1] < 0.01


@pytest.mark.parametrize("name", [*TIMM_SCHEDULES, *TORCH_SCHEDULES])
def test_a_schedule_goes_on_where_it_was(name: str) -> None:
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    arguments = {"decay_milestones": [3, 6]} if name == "multistep" else {}
    whole = rates(schedule=name, losses=losses, schedule_args=arguments)
    assert rates(schedule=name, losses=losses, begin=60, schedule_args=arguments) == pytest.approx(whole[60:])


@pytest.mark.parametrize("name", ["adam", "adamw", "madgrad", "lion", "sgd", "radam"])
def test_optimizers_step(name: str) -> None:
    model = torch.nn.Linear(3, 1)
    before = model.weight.clone()
    optimizer = make_optimizer(model, StageRecipe(backbone="x", optimizer=name))
    decay = {group["weight_decay"] for group in optimizer.param_groups}
    assert decay == {0.0, 0.05}, "biases are not decayed"
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert (model.weight != before).all()


def test_wrong_names_and_arguments_say_so() -> None:
    model = torch.nn.Linear(3, 1)
    for settings, said in (
        ({"optimizer": "adamm"}, "did you mean adam"),
        ({"optimizer_args": {"betta": 1}}, "betta"),
    ):
        with pytest.raises(FacecadeError) as caught:
            make_optimizer(model, StageRecipe.model_validate({"backbone": "x", **settings}))
        assert said in caught.value.hint
    with pytest.raises(FacecadeError) as caught:
        rates(schedule="cosin")
    assert "did you mean cosine" in caught.value.hint
    with pytest.raises(FacecadeError, match="schedule step"):
        rates(schedule="step", schedule_args={"decay": 3})
