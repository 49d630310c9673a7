"""Folded batch norms keep their function, and get the statistics of their features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import timm
import torch
from torch import nn

import facecade.backbones  # noqa: F401 - registers its networks
from facecade.backbones.batch_norm import is_folded, restore_statistics, set_scale_and_shift

NETWORKS = [("faceres", (64, 64)), ("dlib_resnet29", (150, 150)), ("face_reid_0095", (128, 128))]


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def folded_model(name: str) -> nn.Module:
    """A network whose batch norms have random scales and shifts, and no statistics."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4).eval()
    random = np.random.default_rng(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # keeps the scale of features across layers
            nn.init.kaiming_normal_(module.weight)
    for norm in norms_of(model):
        channels = norm.num_features
        set_scale_and_shift(norm, random.uniform(0.5, 2, channels), random.normal(0, 0.5, channels))
    return model


def batches(size: tuple[int, int], count: int = 2) -> list[torch.Tensor]:
    """Smooth noise with mean 2 and another std than a new network expects."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(4 * count, 3, 9, 9, generator=generator) * 3 + 2
    return list(nn.functional.interpolate(coarse, size, mode="bilinear").split(4))


def outputs_of(model: nn.Module, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in inputs])


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_a_folded_batch_norm_is_a_scale_and_a_shift(eps: float) -> None:
    norm, scale, shift = nn.BatchNorm2d(3, eps=eps), np.array([2.0, -1, 0]), np.array([0.5, 0, 7])
    assert not nn.BatchNorm2d(3).running_var.ne(1).any()
    set_scale_and_shift(norm, scale, shift)
    values = torch.randn(2, 3, 4, 4)
    expected = values * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)
    assert torch.allclose(norm.eval()(values), expected.float(), atol=1e-5)
    assert norm.weight.dtype == norm.bias.dtype == torch.float32


@pytest.mark.parametrize(("scales", "shifts"), [(2, 3), (3, 2), (4, 4), (1, 1), (0, 0)])
def test_a_wrong_number_of_scales_is_an_error(scales: int, shifts: int) -> None:
    with pytest.raises(ValueError, match="for 3 channels"):
        set_scale_and_shift(nn.BatchNorm2d(3), np.ones(scales), np.ones(shifts))


def test_is_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    for norm in norms_of(model):
        set_scale_and_shift(norm, np.ones(4), np.zeros(4))
    assert is_folded(model)
    model.train()(torch.randn(2, 3, 9, 9))
    assert not is_folded(model), "it has statistics of features"
    assert not is_folded(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))), "it has no batch norm"
    assert not is_folded(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    assert not is_folded(timm.create_model("test_vit", num_classes=2, img_size=32))


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_restored_statistics_keep_the_outputs_in_eval_and_train_mode(name: str, size: tuple[int, int]) -> None:
    model, inputs = folded_model(name), batches(size, 1)
    before, std = outputs_of(model, inputs), outputs_of(model, inputs).std()
    assert torch.isfinite(before).all() and is_folded(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    train_outputs = outputs_of(model.train(), inputs)
    assert (train_outputs - before).abs().max() > 0.1 * std, "without restored statistics, train mode differs"
    model.load_state_dict(state)
    restore_statistics(model.eval(), iter(inputs))
    assert not is_folded(model) and all((norm.running_var >= 0).all() for norm in norms_of(model))
    after = outputs_of(model.eval(), inputs)
    assert torch.allclose(after, before, atol=1e-4 * max(1.0, float(before.abs().max())))
    assert torch.allclose(outputs_of(model.train(), inputs), after, atol=2e-2 * float(std)), "with them it is the same"


def test_statistics_are_computed_over_all_batches() -> None:
    norm = nn.BatchNorm2d(2)
    set_scale_and_shift(norm, np.array([1.0, 3.0]), np.zeros(2))
    values = torch.randn(7, 2, 5, 5) * 4 + torch.tensor([1.0, -20.0]).view(1, 2, 1, 1)
    restore_statistics(nn.Sequential(norm), [values[:4], values[4:6], values[6:]])
    assert torch.allclose(norm.running_mean, values.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, values.var((0, 2, 3), correction=0), rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_kept_and_hooks_are_removed(training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train(training)
    set_scale_and_shift(model[1], np.ones(2), np.zeros(2))
    restore_statistics(model, [torch.randn(4, 3, 8, 8)])
    assert model.training is model[2].training is training
    assert not model[1]._forward_pre_hooks
    model.requires_grad_(True)(torch.randn(2, 3, 8, 8)).sum().backward()  # no inference tensors remain


def test_constant_channels() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[0].bias[:2] = torch.tensor([0.0, 5.0])
    set_scale_and_shift(model[1], np.array([1.0, 2.0, 3.0, 0.0]), np.array([1.0, -1.0, 0.5, 0.25]))
    inputs = [torch.randn(4, 3, 8, 8)]
    before = outputs_of(model.eval(), inputs)
    restore_statistics(model, inputs)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert torch.allclose(outputs_of(model.eval(), inputs), before, atol=1e-4)
    train_outputs = outputs_of(model.train(), inputs)
    assert torch.allclose(train_outputs, before, atol=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1e-4, 1e-5, 1e-6])
def test_channels_of_small_variance_are_not_amplified(size: float) -> None:
    norm = nn.BatchNorm2d(2)
    set_scale_and_shift(norm, np.array([1.0, 2.0]), np.zeros(2))
    inputs = [size * torch.randn(8, 2, 8, 8)]
    before = outputs_of(nn.Sequential(norm).eval(), inputs)
    restore_statistics(nn.Sequential(norm), inputs)
    assert torch.allclose(outputs_of(norm.eval(), inputs), before, atol=1e-2 * size)
    assert torch.allclose(outputs_of(norm.train(), inputs), before, atol=0.2 * size), "train mode keeps the scale"


def test_batch_norm_1d() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    set_scale_and_shift(model[1], np.array([1.0, 2.0, 3.0]), np.ones(3))
    inputs = [torch.randn(16, 5)]
    before = outputs_of(model.eval(), inputs)
    restore_statistics(model, inputs)
    assert torch.allclose(outputs_of(model.eval(), inputs), before, atol=1e-5)
    assert torch.allclose(outputs_of(model.train(), inputs), before, atol=1e-4)


def test_an_unused_batch_norm_is_not_changed() -> None:
    class WithUnused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.used(values)

    model = WithUnused()
    for norm in (model.used, model.unused):
        set_scale_and_shift(norm, np.ones(3), np.zeros(3))
    restore_statistics(model, [torch.randn(4, 3, 8, 8)])
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_batch_norm_without_scale_and_shift() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3))
    inputs = [torch.randn(4, 3, 8, 8) * 3 + 1]
    before = outputs_of(model.eval(), inputs)
    restore_statistics(model, inputs)
    assert torch.allclose(outputs_of(model.eval(), inputs), before, atol=1e-4)
