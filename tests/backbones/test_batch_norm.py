"""Batch norm that was folded away is the function it was, and has its features' statistics again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import timm
import torch
from torch import nn

import facecade.backbones  # noqa: F401 - its networks' names
from facecade.backbones.batch_norm import is_folded, put_folded, restore_statistics

NETWORKS = [("faceres", (64, 64)), ("dlib_resnet29", (150, 150)), ("face_reid_0095", (128, 128))]


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def folded(name: str) -> nn.Module:
    """A network whose batch norms are scales and shifts of chance, and have no statistics."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4).eval()
    random = np.random.default_rng(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # features that neither die nor grow on their way
            nn.init.kaiming_normal_(module.weight)
    for norm in norms_of(model):
        channels = norm.num_features
        put_folded(norm, random.uniform(0.5, 2, channels), random.normal(0, 0.5, channels))
    return model


def batches(size: tuple[int, int], count: int = 2) -> list[torch.Tensor]:
    """Smooth noise, not of the spread that a fresh network expects."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(4 * count, 3, 9, 9, generator=generator) * 3 + 2
    return list(nn.functional.interpolate(coarse, size, mode="bilinear").split(4))


def answers(model: nn.Module, given: Sequence[torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(each) for each in given])


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_what_is_folded_is_a_scale_and_a_shift(eps: float) -> None:
    norm, scale, shift = nn.BatchNorm2d(3, eps=eps), np.array([2.0, -1, 0]), np.array([0.5, 0, 7])
    assert not nn.BatchNorm2d(3).running_var.ne(1).any()
    put_folded(norm, scale, shift)
    values = torch.randn(2, 3, 4, 4)
    wanted = values * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)
    assert torch.allclose(norm.eval()(values), wanted.float(), atol=1e-5)
    assert norm.weight.dtype == norm.bias.dtype == torch.float32


@pytest.mark.parametrize(("scales", "shifts"), [(2, 3), (3, 2), (4, 4), (1, 1), (0, 0)])
def test_scales_of_another_count_are_refused(scales: int, shifts: int) -> None:
    with pytest.raises(ValueError, match="for 3 channels"):
        put_folded(nn.BatchNorm2d(3), np.ones(scales), np.ones(shifts))


def test_what_was_folded_is_known_by_its_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    for norm in norms_of(model):
        put_folded(norm, np.ones(4), np.zeros(4))
    assert is_folded(model)
    model.train()(torch.randn(2, 3, 9, 9))
    assert not is_folded(model), "it has learned of features"
    assert not is_folded(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))), "there is none"
    assert not is_folded(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    assert not is_folded(timm.create_model("test_vit", num_classes=2, img_size=32))


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_restored_it_answers_as_before_and_learns_from_there(name: str, size: tuple[int, int]) -> None:
    model, given = folded(name), batches(size, 1)
    before, spread = answers(model, given), answers(model, given).std()
    assert torch.isfinite(before).all() and is_folded(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    learning = answers(model.train(), given)
    assert (learning - before).abs().max() > 0.1 * spread, "in training it is another network"
    model.load_state_dict(state)
    restore_statistics(model.eval(), iter(given))
    assert not is_folded(model) and all((norm.running_var >= 0).all() for norm in norms_of(model))
    after = answers(model.eval(), given)
    assert torch.allclose(after, before, atol=1e-4 * max(1.0, float(before.abs().max())))
    assert torch.allclose(answers(model.train(), given), after, atol=2e-2 * float(spread)), "and now it is the same"


def test_statistics_are_those_of_all_batches_of_any_size() -> None:
    norm = nn.BatchNorm2d(2)
    put_folded(norm, np.array([1.0, 3.0]), np.zeros(2))
    values = torch.randn(7, 2, 5, 5) * 4 + torch.tensor([1.0, -20.0]).view(1, 2, 1, 1)
    restore_statistics(nn.Sequential(norm), [values[:4], values[4:6], values[6:]])
    assert torch.allclose(norm.running_mean, values.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, values.var((0, 2, 3), correction=0), rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_in_its_mode_with_no_hook(training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train(training)
    put_folded(model[1], np.ones(2), np.zeros(2))
    restore_statistics(model, [torch.randn(4, 3, 8, 8)])
    assert model.training is model[2].training is training
    assert not model[1]._forward_pre_hooks
    model.requires_grad_(True)(torch.randn(2, 3, 8, 8)).sum().backward()  # nothing is an inference tensor


def test_channels_that_never_vary_survive() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[0].bias[:2] = torch.tensor([0.0, 5.0])
    put_folded(model[1], np.array([1.0, 2.0, 3.0, 0.0]), np.array([1.0, -1.0, 0.5, 0.25]))
    given = [torch.randn(4, 3, 8, 8)]
    before = answers(model.eval(), given)
    restore_statistics(model, given)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert torch.allclose(answers(model.eval(), given), before, atol=1e-4)
    learning = answers(model.train(), given)
    assert torch.allclose(learning, before, atol=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1e-4, 1e-5, 1e-6])
def test_channels_that_hardly_vary_are_not_made_loud(size: float) -> None:
    norm = nn.BatchNorm2d(2)
    put_folded(norm, np.array([1.0, 2.0]), np.zeros(2))
    given = [size * torch.randn(8, 2, 8, 8)]
    before = answers(nn.Sequential(norm).eval(), given)
    restore_statistics(nn.Sequential(norm), given)
    assert torch.allclose(answers(norm.eval(), given), before, atol=1e-2 * size)
    assert torch.allclose(answers(norm.train(), given), before, atol=0.2 * size), "as large in training as it was"


def test_of_features_of_two_axes_too() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    put_folded(model[1], np.array([1.0, 2.0, 3.0]), np.ones(3))
    given = [torch.randn(16, 5)]
    before = answers(model.eval(), given)
    restore_statistics(model, given)
    assert torch.allclose(answers(model.eval(), given), before, atol=1e-5)
    assert torch.allclose(answers(model.train(), given), before, atol=1e-4)


def test_a_batch_norm_that_nothing_goes_through_stays() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.used(values)

    model = Beside()
    for norm in (model.used, model.unused):
        put_folded(norm, np.ones(3), np.zeros(3))
    restore_statistics(model, [torch.randn(4, 3, 8, 8)])
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_batch_norm_without_scale_and_shift_does_no_harm() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3))
    given = [torch.randn(4, 3, 8, 8) * 3 + 1]
    before = answers(model.eval(), given)
    restore_statistics(model, given)
    assert torch.allclose(answers(model.eval(), given), before, atol=1e-4)
