"""The frozen part never changes and is computed once; training with cached features is equivalent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facecade.backbones.backbone import Backbone
from facecade.base.errors import FacecadeError
from facecade.recipe import StageRecipe
from facecade.recipe_file import parse
from facecade.training import loop
from facecade.training.dataset import AugmentedCrops
from facecade.training.freeze import CachedFeatures, PartlyFrozen, cache_features, cache_shared_features, module_chain
from facecade.training.loop import TrainingData, fit
from facecade.training.losses import class_loss
from facecade.training.predict import predict

SIZE = (32, 32)
RECIPE = StageRecipe(backbone="test_efficientnet", size=SIZE, epochs=3, batch_size=8, lr=1e-2, ema=0.9, dropout=0.3)
ROWS = np.arange(40)
TARGET = ROWS % 2
CROPS = np.random.default_rng(0).integers(0, 256, (40, 40, 30, 3), np.uint8)
CUTS = [
    ("test_efficientnet", "all"),
    ("test_efficientnet", "blocks.1"),
    ("test_resnet", "layer2"),
    ("test_resnet", "all"),
]


def make_model(name: str, until: str) -> tuple[Backbone, PartlyFrozen]:
    torch.manual_seed(0)
    backbone = Backbone(name, 2, SIZE, dropout=0.3)
    for parameter in backbone.parameters():  # a newly initialized residual block is the identity
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return backbone, PartlyFrozen(backbone, until, SIZE).eval()


def fit_on(features: CachedFeatures, model: PartlyFrozen, recipe: StageRecipe, folder: Path) -> Backbone:
    """The backbone, trained on cached features of every row."""
    weight, old = np.ones(40, np.float32), TARGET == 1
    data = TrainingData(ROWS, ROWS[:0], TARGET.astype(np.float32), weight, ROWS.astype(str), TARGET, old, features)
    return fit(model, data, class_loss("ce", torch.ones(2)), recipe, 7, folder / "s", folder, "t").backbone


@pytest.mark.parametrize(("name", "until"), CUTS)
def test_frozen_and_trainable_part_together_are_the_backbone(name: str, until: str) -> None:
    backbone, partly_frozen = make_model(name, until)
    images = torch.from_numpy(CROPS[:8, :32, :1].repeat(32, 2))
    with torch.inference_mode():
        expected, outputs = backbone.eval()(images), partly_frozen(partly_frozen.frozen_features(images))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, outputs, strict=True))


@pytest.mark.parametrize(("name", "until"), CUTS)
def test_the_frozen_part_is_computed_once_and_does_not_change(name: str, until: str, tmp_path: Path) -> None:
    backbone, partly_frozen = make_model(name, until)
    recipe = RECIPE.model_copy(update={"freeze": until})
    batch_sizes: list[int] = []
    first = next(module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda module, inputs, outputs: batch_sizes.append(len(outputs)))
    features = cache_features(partly_frozen, CROPS, ROWS, ROWS, recipe, tmp_path)
    count = sum(batch_sizes)
    assert features.features.shape[:2] == (40, 2) and count == 80, "forty images in two views"
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    kept = fit_on(features, partly_frozen, recipe, tmp_path)
    assert sum(batch_sizes) == count, "no epoch ran the frozen part"
    after = kept.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    head = f"model.{backbone.model.pretrained_cfg['classifier']}."
    assert {f"{head}weight", f"{head}bias"} <= changed
    if until == "all":
        assert changed == {f"{head}weight", f"{head}bias"}
    else:
        frozen = tuple(f"model.{link}." for link in partly_frozen.frozen)
        assert frozen and not [key for key in changed if key.startswith(frozen)]
        assert [key for key in changed if not key.startswith(head)], "more than the head is trained"
    expected = predict(kept.eval(), CROPS, ROWS, recipe)[1]
    assert np.allclose(features.outputs(PartlyFrozen(kept, until, SIZE).eval(), ROWS), expected, atol=1e-4)


def test_a_head_on_a_frozen_backbone_can_be_trained(tmp_path: Path) -> None:
    bright = (CROPS // 3 + 150 * TARGET[:, None, None, None]).astype(np.uint8)
    _, partly_frozen = make_model("test_efficientnet", "all")
    recipe = RECIPE.model_copy(update={"freeze": "all", "epochs": 20, "dropout": 0.0})
    features = cache_features(partly_frozen, bright, ROWS, ROWS, recipe, tmp_path)
    kept = fit_on(features, partly_frozen, recipe, tmp_path)
    assert (predict(kept, bright, ROWS, recipe)[1].argmax(1) == TARGET).mean() > 0.9


@pytest.mark.parametrize("until", ["all", "blocks.2"])
def test_an_interrupted_fit_resumes_to_the_same_weights(
    until: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"freeze": until, "patience": 3, "stop_share": 0.2})

    def train(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        _, partly_frozen = make_model("test_efficientnet", until)
        features = cache_features(partly_frozen, CROPS, ROWS, ROWS, recipe, folder)
        samples = AugmentedCrops(CROPS, ROWS, [], recipe)
        target, ones = TARGET.astype(np.float32), np.ones(40, np.float32)
        training_data = replace(
            TrainingData(ROWS[8:], ROWS[:8], target, ones, ROWS, TARGET, TARGET == 1, samples), samples=features
        )
        kept = fit(partly_frozen, training_data, class_loss("ce", torch.ones(2)), recipe, 7, folder / "s", folder, "t")
        return {key: value.clone() for key, value in kept.backbone.state_dict().items()}

    expected, save_state = train(tmp_path / "whole"), loop.save_state

    def save_and_interrupt(*arguments: object) -> None:
        save_state(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", save_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "interrupted")
    monkeypatch.setattr(loop, "save_state", save_state)
    resumed = train(tmp_path / "interrupted")
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_a_backbone_that_cannot_be_partly_frozen_is_an_error() -> None:
    with pytest.raises(FacecadeError, match="not a chain of modules"):
        module_chain(Backbone("test_vit", 2, (160, 160)).model, (160, 160))
    with pytest.raises(FacecadeError, match=r"unknown module 'block\.1'") as error:
        PartlyFrozen(Backbone("test_efficientnet", 2, SIZE), "block.1", SIZE)
    assert "blocks.1" in error.value.hint
    stage = {"backbone": "resnet18", "freeze": "all", "augment": "face", "cutmix": 1.0}
    with pytest.raises(FacecadeError, match="augment, cutmix cannot change the images"):
        parse({"stages": {"mask": stage}, "augment": {"face": []}})


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_training_differs_by_rounding_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a head only, which compiles in seconds."""
    weights = {}
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        folder.mkdir()
        backbone, partly_frozen = make_model("test_efficientnet", "all")
        backbone.dropout = 0.0  # compiled, it draws other random numbers
        recipe = RECIPE.model_copy(update={"freeze": "all"})
        features = cache_features(partly_frozen, CROPS, ROWS, ROWS, recipe, folder)
        target, ones = TARGET.astype(np.float32), np.ones(40, np.float32)
        training_data = TrainingData(ROWS, ROWS[:0], target, ones, ROWS, TARGET, TARGET == 1, features)
        loss = class_loss("ce", torch.ones(2))
        kept = fit(partly_frozen, training_data, loss, recipe, 7, folder / "s", folder, "t", compiled=compiled).backbone
        weights[compiled] = kept.model.get_classifier().weight
    assert torch.allclose(weights[False], weights[True], atol=1e-5)
    assert capsys.readouterr().err.count("t: compiled within") == 1


def test_shared_features_are_computed_by_the_first_fit_only(tmp_path: Path) -> None:
    _, partly_frozen = make_model("test_efficientnet", "all")
    recipe = RECIPE.model_copy(update={"freeze": "all"})
    crop_row = np.r_[ROWS[::-1], ROWS[:3]]  # rows may share a crop
    first = cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)
    expected = cache_features(partly_frozen, CROPS, crop_row, np.arange(len(crop_row)), recipe, tmp_path)
    for row in (0, 39, 42):
        np.testing.assert_allclose(
            first.features[first.feature_row[row]], expected.features[expected.feature_row[row]], atol=1e-6
        )
    (file,) = tmp_path.glob("frozen-*.npy")
    file.rename(tmp_path / f".tmp-1-{file.name}")  # as if the process had been killed before it renamed the file
    cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)
    assert [path.name for path in tmp_path.glob("*.npy")] == [file.name]
    partly_frozen.frozen_features = None  # type: ignore[assignment, method-assign]
    second = cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)
    assert np.array_equal(first.features, second.features)
    partly_frozen.backbone.model.get_classifier().weight.data += 1
    cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)  # the head does not affect the features
    partly_frozen.backbone.model.conv_stem.weight.data += 1
    with pytest.raises(TypeError):
        cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)


@pytest.mark.parametrize("vote", ["soft", "hard"])
def test_predictions_from_cached_features_are_those_of_the_backbone(vote: str, tmp_path: Path) -> None:
    backbone, partly_frozen = make_model("test_resnet", "all")
    recipe = RECIPE.model_copy(update={"freeze": "all", "views": ("plain", "flip", "left"), "vote": vote})
    features = cache_shared_features(partly_frozen, CROPS, ROWS, recipe, tmp_path)
    rows = np.array([3, 30, 3, 17, 8, 9, 10, 11, 12])
    for values, expected in zip(
        features.predict(partly_frozen, rows, recipe), predict(backbone.eval(), CROPS, rows, recipe), strict=True
    ):
        np.testing.assert_allclose(values, expected, atol=1e-5)
