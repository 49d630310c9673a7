"""What is frozen never changes and is computed once; what is left learns as if nothing had been recorded_choice."""

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
from facecade.training.freeze import PartlyFrozen, cache_features, cache_shared_features, chain
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


def begun(name: str, until: str) -> tuple[Backbone, PartlyFrozen]:
    torch.manual_seed(0)
    backbone = Backbone(name, 2, SIZE, dropout=0.3)
    for parameter in backbone.parameters():  # a fresh residual block changes nothing, and would not be missed
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return backbone, PartlyFrozen(backbone, until, SIZE).eval()


@pytest.mark.parametrize(("name", "until"), CUTS)
def test_both_parts_together_are_the_backbone(name: str, until: str) -> None:
    backbone, partly_frozen = begun(name, until)
    images = torch.from_numpy(CROPS[:8, :32, :1].repeat(32, 2))
    with torch.inference_mode():
        wanted, said = backbone.eval()(images), partly_frozen(partly_frozen.cache_features(images))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(wanted, said, strict=True))


@pytest.mark.parametrize(("name", "until"), CUTS)
def test_what_is_frozen_is_computed_once_and_stays(name: str, until: str, tmp_path: Path) -> None:
    backbone, partly_frozen = begun(name, until)
    recipe = RECIPE.model_copy(update={"freeze": until})
    seen: list[int] = []
    first = next(module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda module, given, said: seen.append(len(said)))
    known = cache_features(partly_frozen, CROPS, ROWS, ROWS, recipe, tmp_path)
    once = sum(seen)
    assert known.features.shape[:2] == (40, 2) and once == 80, "forty images in two views"
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    training_data = TrainingData(
        ROWS, ROWS[:0], TARGET.astype(np.float32), np.ones(40, np.float32), ROWS.astype(str), TARGET, TARGET == 1, known
    )
    kept = fit(
        partly_frozen, training_data, class_loss("ce", torch.ones(2)), recipe, 7, tmp_path / "s", tmp_path, "t"
    ).backbone
    assert sum(seen) == once, "no epoch went through the frozen part"
    after = kept.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    head = f"model.{backbone.model.pretrained_cfg['classifier']}."
    assert {f"{head}weight", f"{head}bias"} <= changed
    if until == "all":
        assert changed == {f"{head}weight", f"{head}bias"}
    else:
        frozen = tuple(f"model.{link}." for link in partly_frozen.frozen)
        assert frozen and not [key for key in changed if key.startswith(frozen)]
        assert [key for key in changed if not key.startswith(head)], "more than the head learns"
    whole = predict(kept.eval(), CROPS, ROWS, recipe)[1]
    assert np.allclose(known.outputs(PartlyFrozen(kept, until, SIZE).eval(), ROWS), whole, atol=1e-4)


def test_a_head_learns_what_a_frozen_backbone_knows(tmp_path: Path) -> None:
    bright = (CROPS // 3 + 150 * TARGET[:, None, None, None]).astype(np.uint8)
    _, partly_frozen = begun("test_efficientnet", "all")
    recipe = RECIPE.model_copy(update={"freeze": "all", "epochs": 20, "dropout": 0.0})
    known = cache_features(partly_frozen, bright, ROWS, ROWS, recipe, tmp_path)
    training_data = TrainingData(
        ROWS, ROWS[:0], TARGET.astype(np.float32), np.ones(40, np.float32), ROWS.astype(str), TARGET, TARGET == 1, known
    )
    kept = fit(
        partly_frozen, training_data, class_loss("ce", torch.ones(2)), recipe, 7, tmp_path / "s", tmp_path, "t"
    ).backbone
    assert (predict(kept, bright, ROWS, recipe)[1].argmax(1) == TARGET).mean() > 0.9


@pytest.mark.parametrize("until", ["all", "blocks.2"])
def test_a_stopped_fit_goes_on_to_the_same_weights(until: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE.model_copy(update={"freeze": until, "patience": 3, "stop_share": 0.2})

    def train(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        _, partly_frozen = begun("test_efficientnet", until)
        known = cache_features(partly_frozen, CROPS, ROWS, ROWS, recipe, folder)
        shown = AugmentedCrops(CROPS, ROWS, [], recipe)
        target, ones = TARGET.astype(np.float32), np.ones(40, np.float32)
        training_data = replace(
            TrainingData(ROWS[8:], ROWS[:8], target, ones, ROWS, TARGET, TARGET == 1, shown), shown=known
        )
        kept = fit(partly_frozen, training_data, class_loss("ce", torch.ones(2)), recipe, 7, folder / "s", folder, "t")
        return {key: value.clone() for key, value in kept.backbone.state_dict().items()}

    whole, real = train(tmp_path / "whole"), loop.save_state

    def dying(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken")
    monkeypatch.setattr(loop, "save_state", real)
    again = train(tmp_path / "broken")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_what_cannot_be_cut_is_said() -> None:
    with pytest.raises(FacecadeError, match="no chain of modules"):
        chain(Backbone("test_vit", 2, (160, 160)).model, (160, 160))
    with pytest.raises(FacecadeError, match=r"unknown module 'block\.1'") as error:
        PartlyFrozen(Backbone("test_efficientnet", 2, SIZE), "block.1", SIZE)
    assert "blocks.1" in error.value.hint
    stage = {"backbone": "resnet18", "freeze": "all", "augment": "face", "cutmix": 1.0}
    with pytest.raises(FacecadeError, match="augment, cutmix would change them"):
        parse({"stages": {"mask": stage}, "augment": {"face": []}})


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_training_is_the_same_but_for_rounding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a head alone, which compiles in seconds."""
    weights = {}
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        folder.mkdir()
        backbone, partly_frozen = begun("test_efficientnet", "all")
        backbone.dropout = 0.0  # its random numbers would be others
        recipe = RECIPE.model_copy(update={"freeze": "all"})
        known = cache_features(partly_frozen, CROPS, ROWS, ROWS, recipe, folder)
        target, ones = TARGET.astype(np.float32), np.ones(40, np.float32)
        training_data = TrainingData(ROWS, ROWS[:0], target, ones, ROWS, TARGET, TARGET == 1, known)
        loss = class_loss("ce", torch.ones(2))
        kept = fit(partly_frozen, training_data, loss, recipe, 7, folder / "s", folder, "t", compiled=compiled).backbone
        weights[compiled] = kept.model.get_classifier().weight
    assert torch.allclose(weights[False], weights[True], atol=1e-5)
    assert capsys.readouterr().err.count("t: compiled within") == 1


def test_frozen_by_others_it_is_computed_by_the_first_fit_alone(tmp_path: Path) -> None:
    _, partly_frozen = begun("test_efficientnet", "all")
    recipe = RECIPE.model_copy(update={"freeze": "all"})
    crop_row = np.r_[ROWS[::-1], ROWS[:3]]  # rows may share a crop
    first = cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)
    wanted = cache_features(partly_frozen, CROPS, crop_row, np.arange(len(crop_row)), recipe, tmp_path)
    for row in (0, 39, 42):
        np.testing.assert_allclose(first.features[first.place[row]], wanted.features[wanted.place[row]], atol=1e-6)
    partly_frozen.cache_features = None  # type: ignore[assignment, method-assign]
    again = cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)
    assert np.array_equal(first.features, again.features)
    partly_frozen.backbone.model.get_classifier().weight.data += 1
    cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)  # a head is no part of it
    partly_frozen.backbone.model.conv_stem.weight.data += 1
    with pytest.raises(TypeError):
        cache_shared_features(partly_frozen, CROPS, crop_row, recipe, tmp_path)


@pytest.mark.parametrize("vote", ["soft", "hard"])
def test_what_is_remembered_answers_as_the_backbone_does(vote: str, tmp_path: Path) -> None:
    backbone, partly_frozen = begun("test_resnet", "all")
    recipe = RECIPE.model_copy(update={"freeze": "all", "views": ("plain", "flip", "left"), "vote": vote})
    known = cache_shared_features(partly_frozen, CROPS, ROWS, recipe, tmp_path)
    asked = np.array([3, 30, 3, 17, 8, 9, 10, 11, 12])
    for said, wanted in zip(
        known.answers(partly_frozen, asked, recipe), predict(backbone.eval(), CROPS, asked, recipe), strict=True
    ):
        np.testing.assert_allclose(said, wanted, atol=1e-5)
