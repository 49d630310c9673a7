"""Optimizers and schedules by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from facecade.backbones.backbone import Backbone
from facecade.base.errors import FacecadeError
from facecade.recipe import StageRecipe
from facecade.training.freeze import PartlyFrozen
from facecade.training.optimizers import TIMM_SCHEDULES, TORCH_SCHEDULES, Schedule, make_optimizer

BATCHES = 10


def rates(epochs: int = 10, losses: list[float] | None = None, begin: int = 0, **settings: Any) -> list[float]:
    """The learning rate of every step, from step `begin` on as after a resume, given the losses of the epochs."""
    recipe = StageRecipe.model_validate({"backbone": "x", "lr": 1.0, "epochs": epochs, **settings})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule = Schedule(optimizer, recipe, BATCHES)
    losses = losses or [1.0] * epochs
    schedule.after_epoch(losses[: begin // BATCHES])
    result = []
    for step in range(begin, epochs * BATCHES):
        schedule.set_rate(step)
        result.append(optimizer.param_groups[0]["lr"])
        if (step + 1) % BATCHES == 0:
            schedule.after_epoch(losses[: (step + 1) // BATCHES])
    return result


def test_cosine_warms_up_and_decays_to_zero() -> None:
    rate = rates(warmup=0.1)
    assert rate[0] < 0.01 and rate[5] == pytest.approx(0.5, abs=0.01) and max(rate) == pytest.approx(1.0, abs=0.03)
    assert rate[50] == pytest.approx(0.5, abs=0.01) and rate[-1] < 1e-3
    assert rates(warmup=0.0)[0] == 1.0


def test_warm_restarts_return_to_the_peak() -> None:
    arguments = {"num_epochs": 5, "cycle_limit": 9, "min_lr": 0.1}
    rate = rates(warmup=0.0, schedule_args=arguments)
    assert rate[0] == rate[50] == 1.0 and rate[49] == pytest.approx(0.1, abs=0.01)
    decayed = rates(warmup=0.0, schedule_args={**arguments, "cycle_decay": 0.5})
    assert decayed[50] == pytest.approx(0.5, abs=0.01)


def test_step_and_plateau_lower_the_rate() -> None:
    rate = rates(schedule="step", warmup=0.0, schedule_args={"decay_epochs": 3, "decay_rate": 0.1})
    assert rate[29] == 1.0 and rate[30] == pytest.approx(0.1) and rate[60] == pytest.approx(0.01)
    stalled = rates(schedule="plateau", warmup=0.0, losses=[1.0] * 10)
    falling = rates(schedule="plateau", warmup=0.0, losses=[1.0 / (i + 1) for i in range(10)])
    assert stalled[-1] < 0.5 and falling == [1.0] * 100
    assert rates(schedule="constant", warmup=0.0) == [1.0] * 100


@pytest.mark.parametrize("name", ["step", "multistep"])
def test_default_steps_are_within_the_epochs(name: str) -> None:
    assert len({round(rate, 6) for rate in rates(schedule=name, warmup=0.0)}) > 2


def test_cyclic_and_onecycle() -> None:
    cyclic = rates(schedule="cyclic")
    assert cyclic[0] == pytest.approx(0.1) and max(cyclic) == pytest.approx(1.0) and cyclic[32] < 0.2
    onecycle = rates(schedule="onecycle")
    assert onecycle[0] == pytest.approx(1 / 25) and onecycle[-1] < 0.01
    assert max(onecycle) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", [*TIMM_SCHEDULES, *TORCH_SCHEDULES])
def test_a_resumed_schedule_has_the_same_rates(name: str) -> None:
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    arguments = {"decay_milestones": [3, 6]} if name == "multistep" else {}
    expected = rates(schedule=name, losses=losses, schedule_args=arguments)
    assert rates(schedule=name, losses=losses, begin=60, schedule_args=arguments) == pytest.approx(expected[60:])


@pytest.mark.parametrize("name", ["adam", "adamw", "madgrad", "lion", "sgd", "radam"])
def test_optimizers_step(name: str) -> None:
    model = torch.nn.Linear(3, 1)
    before = model.weight.clone()
    optimizer = make_optimizer(model, StageRecipe(backbone="x", optimizer=name))
    decay = {group["weight_decay"] for group in optimizer.param_groups}
    assert decay == {0.0, 0.05}, "biases have no weight decay"
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert (model.weight != before).all()


def test_wrong_names_and_arguments_are_errors() -> None:
    model = torch.nn.Linear(3, 1)
    for settings, text in (
        ({"optimizer": "adamm"}, "did you mean adam"),
        ({"optimizer_args": {"betta": 1}}, "betta"),
    ):
        with pytest.raises(FacecadeError) as caught:
            make_optimizer(model, StageRecipe.model_validate({"backbone": "x", **settings}))
        assert text in caught.value.hint
    with pytest.raises(FacecadeError) as caught:
        rates(schedule="cosin")
    assert "did you mean cosine" in caught.value.hint
    with pytest.raises(FacecadeError, match="schedule step"):
        rates(schedule="step", schedule_args={"decay": 3})
    for arguments in ({"betas": 3}, {"betas": [2.0, 3.0]}, {"x" * 5000: 1}):
        with pytest.raises(FacecadeError, match="optimizer adamw") as caught:
            make_optimizer(model, StageRecipe(backbone="x", optimizer_args=arguments))
        assert len(f"{caught.value}{caught.value.hint}") < 500


@pytest.mark.parametrize("name", [*TIMM_SCHEDULES, *TORCH_SCHEDULES])
def test_rates_are_checked_before_training(name: str) -> None:
    def check(**settings: Any) -> None:
        recipe = StageRecipe(backbone="x", schedule=name, **settings)
        Schedule(make_optimizer(torch.nn.Linear(3, 1), recipe), recipe, 2).require_rates()

    check()
    for arguments in ({"min_lr": "a", "max_lr": "a", "factor": "a"}, {"nothing": 1}):
        with pytest.raises(FacecadeError, match=f"schedule {name}"):
            check(schedule_args=arguments)


def layered(name: str = "test_resnet", optimizer: str = "sgd", **settings: Any) -> tuple[Backbone, Any, StageRecipe]:
    """A small backbone, its optimizer with layer decay, and the recipe."""
    recipe = StageRecipe.model_validate({"backbone": name, "lr": 0.5, "layer_decay": 0.5, "epochs": 10, **settings})
    backbone = Backbone(name, 2, (64, 64))
    return backbone, make_optimizer(backbone, recipe.model_copy(update={"optimizer": optimizer})), recipe


def scales(backbone: Backbone, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The `lr_scale` of each parameter, by timm's name."""
    names = {parameter: name for name, parameter in backbone.model.named_parameters()}
    return {names[parameter]: group["lr_scale"] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("test_resnet", ["conv1", "layer2.0", "layer4.0", "fc"]),
        ("test_vit", ["patch_embed", "blocks.0", "blocks.3", "head"]),
        ("dlib_resnet29", ["stem.0", "layer2.1", "layer4.1", "classifier"]),
        ("sface", ["stem", "blocks.3", "blocks.20", "classifier"]),
        ("face_reid_0095", ["stem.0", "blocks.1", "blocks.12", "classifier"]),
        ("faceres", ["conv_stem", "blocks.1", "blocks.4", "classifier"]),
        ("inception_resnet_v1", ["conv2d_1a", "repeat_1.0", "repeat_3.0", "logits"]),
    ],
)
def test_earlier_layers_have_lower_rates(name: str, order: list[str]) -> None:
    recipe = StageRecipe.model_validate({"backbone": name, "layer_decay": 0.5})
    backbone = Backbone(name, 2, (64, 64))
    scale = scales(backbone, make_optimizer(backbone, recipe))
    assert scale.keys() == {key for key, _ in backbone.model.named_parameters()}, "every parameter is in one group"
    shares = [max(value for key, value in scale.items() if key.startswith(f"{start}.")) for start in order]
    assert shares == sorted(set(shares)) and shares[-1] == 1, "the head has the full rate"
    assert {group["weight_decay"] for group in make_optimizer(backbone, recipe).param_groups} == {0.0, 0.05}


def test_layer_decay_of_a_partly_frozen_network() -> None:
    recipe = StageRecipe.model_validate({"backbone": "test_resnet", "layer_decay": 0.5, "freeze": "layer2"})
    backbone = Backbone("test_resnet", 2, (64, 64))
    scale = scales(backbone, make_optimizer(PartlyFrozen(backbone, "layer2", (64, 64)), recipe))
    assert not [key for key in scale if key.startswith(("conv1", "layer1", "layer2"))], (
        "frozen parameters are not optimized"
    )
    assert scale["layer3.0.conv1.weight"] < scale["layer4.0.conv1.weight"] < scale["fc.weight"] == 1


def test_without_layer_decay_there_is_one_rate() -> None:
    _, optimizer, _ = layered(layer_decay=1.0)
    assert {group.get("lr_scale", 1.0) for group in optimizer.param_groups} == {1.0}


@pytest.mark.parametrize("name", [*TIMM_SCHEDULES, *TORCH_SCHEDULES])
@pytest.mark.parametrize("begin", [0, 60])
def test_every_schedule_scales_the_rate_of_each_layer(name: str, begin: int) -> None:
    """Relative to the rate without layer decay, from the start and after a resume."""
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    arguments = {"decay_milestones": [3, 6]} if name == "multistep" else {}
    expected = rates(lr=0.5, losses=losses, schedule=name, schedule_args=arguments)[begin:]
    _, optimizer, recipe = layered(schedule=name, schedule_args=arguments)
    schedule = Schedule(optimizer, recipe, BATCHES)
    schedule.after_epoch(losses[: begin // BATCHES])
    result = []
    for step in range(begin, 100):
        result.append(schedule.set_rate(step))
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(result[-1] * group["lr_scale"])
        if (step + 1) % BATCHES == 0:
            schedule.after_epoch(losses[: (step + 1) // BATCHES])
    assert len({group["lr_scale"] for group in optimizer.param_groups}) > 3
    assert result == pytest.approx(expected), "the returned rate is that of the head"


@pytest.mark.parametrize("name", ["adam", "adamw", "madgrad", "lion", "sgd", "radam"])
def test_optimizers_step_with_layer_decay(name: str) -> None:
    backbone, optimizer, _ = layered(optimizer=name)
    before = {key: value.clone() for key, value in backbone.model.named_parameters()}
    backbone(torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8))[1].square().sum().backward()
    optimizer.step()
    changed = {key for key, value in backbone.model.named_parameters() if not torch.equal(value, before[key])}
    assert {"fc.weight", "conv1.0.weight"} <= changed
