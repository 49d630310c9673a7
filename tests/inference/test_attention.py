"""Attention maps of small real backbones, with weights of chance."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facecade.backbones.backbone import Backbone
from facecade.base.errors import FacecadeError
from facecade.inference.attention import attention, overlay, targets
from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.fit import Fit, load_fold, new_backbone
from facecade.training.checkpoint import save_weights
from facecade.training.pixels import resize

PATCHES = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 3), dtype=np.uint8)
CROPS = PATCHES.repeat(50, 1).repeat(50, 2)


def small(size: tuple[int, int]) -> torch.Tensor:
    """CROPS as a network of that size sees them."""
    return torch.from_numpy(np.stack([resize(crop, size) for crop in CROPS]))


def fit_of(folder: Path, stage: str = "mask", loss: str = "ce", **settings: Any) -> Fit:
    """A fit whose weights are a fresh model's, but for a head that answers with one class or the other."""
    recipe = StageRecipe(**{"backbone": "test_resnet", "size": (128, 96), "loss": loss, **settings})
    made = make_stage(stage, loss, recipe.auxiliary)
    backbone = new_backbone(made, recipe, 0).eval()
    head = backbone.model.get_classifier()
    with torch.no_grad():
        head.weight.normal_(generator=torch.Generator().manual_seed(1))
        head.bias -= backbone(small(recipe.size))[1].mean(0)
    save_weights(folder / "weights.safetensors", backbone)
    return Fit(made, 0, "fold 0", recipe, "none", [], [], None, 0, "", "", folder)


def features_and_head(fit: Fit) -> tuple[Backbone, torch.Tensor, torch.Tensor]:
    """Of a backbone that averages its last map and multiplies: the maps of CROPS, and the head's weights."""
    backbone = load_fold(fit, torch.device("cpu"))
    with torch.no_grad():
        features = backbone.model.forward_features(backbone.normalised(small(fit.recipe.size)))
    return backbone, features, backbone.model.get_classifier().weight.detach()


def spread_over_crop(values: np.ndarray, fit: Fit) -> np.ndarray:
    """What is above 0 of a coarse map, brought to 0..1 and over the crop."""

    def whole(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (np.ptp(values) + 1e-7)

    at_input = cv2.resize(whole(np.maximum(values, 0)), fit.recipe.size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(whole(at_input), (150, 200), interpolation=cv2.INTER_LINEAR))


def test_of_pooled_features_it_is_the_class_activation_map(tmp_path: Path) -> None:
    """Where the head is linear in averaged features, Grad-CAM is CAM (section 3.1 of the paper), computed here by hand."""
    fit = fit_of(tmp_path)
    backbone, features, head = features_and_head(fit)
    with torch.no_grad():
        answers = backbone.head(features)[1].argmax(1)
    assert len(set(answers.tolist())) > 1, "classes differ, so that a map of a fixed class would not do"
    found = attention(fit, CROPS)
    assert found.shape == (6, 200, 150) and found.dtype == np.float32
    for each, of, answer in zip(found, features, answers, strict=True):
        wanted = torch.einsum("c,chw->hw", head[answer], of).numpy()
        np.testing.assert_allclose(each, spread_over_crop(wanted, fit), atol=1e-4)


def test_a_joint_network_is_asked_one_question_and_an_age_is_its_years(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, "joint", "huber")
    assert targets(fit.stage) == ("mask", "gender", "age")
    _, features, head = features_and_head(fit)
    wanted = torch.einsum("c,nchw->nhw", head[-1], features).numpy()
    for each, of in zip(attention(fit, CROPS, "age"), wanted, strict=True):
        np.testing.assert_allclose(each, spread_over_crop(of, fit), atol=1e-4)
    maps = [attention(fit, CROPS, target) for target in targets(fit.stage)]
    assert all(np.abs(one - other).max() > 0.2 for one, other in zip(maps, [maps[-1], *maps[:-1]], strict=True))
    with pytest.raises(FacecadeError, match="target to joint"):
        attention(fit, CROPS)


@pytest.mark.parametrize(
    ("stage", "loss", "auxiliary", "asked"),
    [
        ("gender-2", "ce", 0.0, "gender"),
        ("age-male", "dldl", 0.2, "age"),
        ("age-female", "corn", 0.0, "age"),
        ("flat", "ce", 0.0, "flat"),
        ("gender-age", "ce", 0.0, "gender-age"),
    ],
)
def test_every_other_stage_answers_one_question(
    tmp_path: Path, stage: str, loss: str, auxiliary: float, asked: str
) -> None:
    fit = fit_of(tmp_path, stage, loss, auxiliary=auxiliary)
    assert targets(fit.stage) == (asked,)
    np.testing.assert_array_equal(attention(fit, CROPS), attention(fit, CROPS, asked))


@pytest.mark.parametrize(
    "backbone", ["test_efficientnet", "test_convnext", "test_mambaout", "test_nfnet", "test_vit", "test_vit4"]
)
def test_networks_of_every_kind_have_a_map(tmp_path: Path, backbone: str) -> None:
    found = attention(fit_of(tmp_path, backbone=backbone, size=(160, 160)), CROPS)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() == pytest.approx(1, abs=0.02)
    assert (found.std((1, 2)) > 0.05).all()


def test_a_map_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, backbone="test_efficientnet")
    many = np.concatenate([CROPS] * 4)
    np.testing.assert_allclose(attention(fit, many)[18:], attention(fit, CROPS), atol=1e-4)
    assert attention(fit, CROPS[:0]).shape == (0, 200, 150)


def test_a_network_without_a_map_of_the_image_says_so(tmp_path: Path) -> None:
    with pytest.raises(FacecadeError, match="32×32"):
        attention(fit_of(tmp_path, size=(32, 32)), CROPS)


def test_without_grad_cam_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **settings: Any) -> Any:
        if name.startswith("pytorch_grad_cam"):
            raise ImportError(name)
        return real(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FacecadeError, match="grad-cam") as error:
        attention(fit_of(tmp_path), CROPS)
    assert error.value.hint == "pip install -e '.[report]'"


def test_a_map_laid_over_a_crop_leaves_alone_what_nothing_hangs_on() -> None:
    there = np.zeros((200, 150), np.float32)
    there[:50] = 1
    shown = overlay(CROPS[0], there)
    assert shown.shape == CROPS[0].shape and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[50:], CROPS[0][50:])
    red, _, blue = shown[:50].reshape(-1, 3).mean(0)
    assert red > blue and red > CROPS[0][:50].mean() + 20, "bright yellow, and RGB"
