"""Attention maps of inputs real backbones with random weights."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import fit_record

from facecade.backbones.backbone import Backbone
from facecade.base.artifact import write_record
from facecade.base.errors import FacecadeError
from facecade.inference.attention import attention, overlay, targets
from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.fit import Fit, load_fold, new_backbone
from facecade.training.checkpoint import save_weights
from facecade.training.pixels import resize

PATCHES = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 3), dtype=np.uint8)
CROPS = PATCHES.repeat(50, 1).repeat(50, 2)


def inputs(size: tuple[int, int]) -> torch.Tensor:
    """CROPS at a network's input size."""
    return torch.from_numpy(np.stack([resize(crop, size) for crop in CROPS]))


def fit_of(folder: Path, stage: str = "mask", loss: str = "ce", **settings: Any) -> Fit:
    """A fit with a new model's weights, and a head that predicts different classes for different crops."""
    recipe = StageRecipe(**{"backbone": "test_resnet", "size": (128, 96), "loss": loss, **settings})
    made = make_stage(stage, loss, recipe.auxiliary)
    backbone = new_backbone(made, recipe, 0).eval()
    head = backbone.model.get_classifier()
    with torch.no_grad():
        head.weight.normal_(generator=torch.Generator().manual_seed(1))
        head.bias -= backbone(inputs(recipe.size))[1].mean(0)
    weights = save_weights(folder / "weights.safetensors", backbone)
    write_record(folder / "meta.json", fit_record(recipe, stage=stage, weights=weights, columns=made.columns))
    return Fit(made, 0, "fold 0", recipe, "none", [], [], None, 0, "", "", folder)


def features_and_head(fit: Fit) -> tuple[Backbone, torch.Tensor, torch.Tensor]:
    """Of a backbone with average pooling and a linear head: the feature maps of CROPS, and the head's weights."""
    backbone = load_fold(fit, torch.device("cpu"))
    with torch.no_grad():
        features = backbone.model.forward_features(backbone.normalize(inputs(fit.recipe.size)))
    return backbone, features, backbone.model.get_classifier().weight.detach()


def resized_to_crop(values: np.ndarray, fit: Fit) -> np.ndarray:
    """The positive part of a coarse map, scaled to 0..1 and resized to the crop."""

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (np.ptp(values) + 1e-7)

    at_input = cv2.resize(scaled(np.maximum(values, 0)), fit.recipe.size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(scaled(at_input), (150, 200), interpolation=cv2.INTER_LINEAR))


def test_map_of_pooled_features_is_the_class_activation_map(tmp_path: Path) -> None:
    """Where the head is linear in averaged features, Grad-CAM is CAM (section 3.1 of the paper), computed here directly."""
    fit = fit_of(tmp_path)
    backbone, features, head = features_and_head(fit)
    with torch.no_grad():
        predictions = backbone.head(features)[1].argmax(1)
    assert len(set(predictions.tolist())) > 1, "the classes differ, so that a map of a fixed class would fail"
    maps = attention(fit, CROPS)
    assert maps.shape == (6, 200, 150) and maps.dtype == np.float32
    for each, feature, prediction in zip(maps, features, predictions, strict=True):
        expected = torch.einsum("c,chw->hw", head[prediction], feature).numpy()
        np.testing.assert_allclose(each, resized_to_crop(expected, fit), atol=1e-4)


def test_joint_stage_has_a_map_per_target_and_age_uses_the_years(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, "joint", "huber")
    assert targets(fit.stage) == ("mask", "gender", "age")
    _, features, head = features_and_head(fit)
    expected = torch.einsum("c,nchw->nhw", head[-1], features).numpy()
    for each, values in zip(attention(fit, CROPS, "age"), expected, strict=True):
        np.testing.assert_allclose(each, resized_to_crop(values, fit), atol=1e-4)
    maps = [attention(fit, CROPS, target) for target in targets(fit.stage)]
    assert all(np.abs(one - other).max() > 0.2 for one, other in zip(maps, [maps[-1], *maps[:-1]], strict=True))
    with pytest.raises(FacecadeError, match="target of joint"):
        attention(fit, CROPS)


@pytest.mark.parametrize(
    ("stage", "loss", "auxiliary", "target"),
    [
        ("gender-2", "ce", 0.0, "gender"),
        ("age-male", "dldl", 0.2, "age"),
        ("age-female", "corn", 0.0, "age"),
        ("flat", "ce", 0.0, "flat"),
        ("gender-age", "ce", 0.0, "gender-age"),
    ],
)
def test_every_other_stage_has_one_target(tmp_path: Path, stage: str, loss: str, auxiliary: float, target: str) -> None:
    fit = fit_of(tmp_path, stage, loss, auxiliary=auxiliary)
    assert targets(fit.stage) == (target,)
    np.testing.assert_array_equal(attention(fit, CROPS), attention(fit, CROPS, target))


@pytest.mark.parametrize(
    "backbone", ["test_efficientnet", "test_convnext", "test_mambaout", "test_nfnet", "test_vit", "test_vit4"]
)
def test_all_kinds_of_networks_have_a_map(tmp_path: Path, backbone: str) -> None:
    maps = attention(fit_of(tmp_path, backbone=backbone, size=(160, 160)), CROPS)
    assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() == pytest.approx(1, abs=0.02)
    assert (maps.std((1, 2)) > 0.05).all()


def test_map_does_not_depend_on_other_crops_of_the_batch(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, backbone="test_efficientnet")
    many = np.concatenate([CROPS] * 4)
    np.testing.assert_allclose(attention(fit, many)[18:], attention(fit, CROPS), atol=1e-4)
    assert attention(fit, CROPS[:0]).shape == (0, 200, 150)


def test_network_without_a_spatial_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FacecadeError, match="32×32"):
        attention(fit_of(tmp_path, size=(32, 32)), CROPS)


def test_missing_grad_cam_names_the_package_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **settings: Any) -> Any:
        if name.startswith("pytorch_grad_cam"):
            raise ImportError(name)
        return real(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FacecadeError, match="grad-cam") as error:
        attention(fit_of(tmp_path), CROPS)
    assert error.value.hint == "pip install -e '.[report]'"


def test_overlay_keeps_pixels_where_the_map_is_zero() -> None:
    values = np.zeros((200, 150), np.float32)
    values[:50] = 1
    overlaid = overlay(CROPS[0], values)
    assert overlaid.shape == CROPS[0].shape and overlaid.dtype == np.uint8
    np.testing.assert_array_equal(overlaid[50:], CROPS[0][50:])
    red, _, blue = overlaid[:50].reshape(-1, 3).mean(0)
    assert red > blue and red > CROPS[0][:50].mean() + 20, "bright yellow, and RGB"
