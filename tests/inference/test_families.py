"""Stages that freeze the same backbone share one pass through it, with the same outputs as own_outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import TINY, call, succeed
from safetensors.torch import load_file, save_file

from facecade.base.machine import Machine
from facecade.combiner.stage_outputs import StageOutputs
from facecade.inference import torch_engine
from facecade.inference.exported import Exported
from facecade.inference.families import families
from facecade.inference.loading import cascade_of_run
from facecade.recipe import StageRecipe
from facecade.runs.run import open_run

FROZEN = ["gender", "age-male", "age-female"]


@pytest.fixture(scope="module")
def shared(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with gender and age as heads on the joint stage's backbone."""
    run = tmp_path_factory.mktemp("shared") / "run"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock"))
    settings = [
        f"stages.{stage}.{setting}"
        for stage in FROZEN
        for setting in ("freeze=all", "augment=none", "weights=stage:joint")
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    succeed("fit-stage", *FROZEN, "--artifacts", run, *words, "--jobs", 1)
    succeed("fit-meta", "--artifacts", run)
    return run


def stage(**settings: object) -> StageRecipe:
    return StageRecipe.model_validate({"backbone": "resnet18", **settings})


def test_families_are_stages_with_the_same_backbone() -> None:
    joint, head = stage(), {"weights": "stage:joint", "freeze": "all"}
    stages = {
        "joint": joint,
        "mask": stage(freeze="all"),
        "gender": stage(**head),
        "age-male": stage(**head, size=[96, 96]),
        "age-female": stage(weights="stage:gender", freeze="all"),
        "flat": stage(weights="stage:joint", freeze="layer3"),
        "gender-age": stage(**head, views=["plain"]),
        "joint-2": stage(weights="package", freeze="all"),
        "mask-2": stage(weights="package", freeze="all", dropout=0.5),
        "mask-3": stage(weights="elsewhere.safetensors", freeze="all"),
    }
    assert families(stages) == [
        ("joint", "gender", "age-female"),
        ("mask",),
        ("age-male",),
        ("flat",),
        ("gender-age",),
        ("joint-2", "mask-2"),
        ("mask-3",),
    ]


def test_frozen_stage_keeps_the_backbone_it_started_from(shared: Path) -> None:
    for fold in range(3):
        weights = {
            name: load_file(shared / "stages" / name / f"fold{fold}/weights.safetensors") for name in ("joint", *FROZEN)
        }
        for name in FROZEN:
            own, different = weights[name], set()
            for key, value in own.items():
                joint = weights["joint"][key]
                if value.shape != joint.shape or not torch.equal(value, joint):
                    different.add(key)
            assert different == {"model.classifier.weight", "model.classifier.bias"}


def outputs_of(run: Path, crops: np.ndarray) -> dict[int, StageOutputs]:
    cascade = cascade_of_run(open_run(run), Machine(engine="torch"))
    (stage_outputs,) = cascade.ensemble.predict_chunks([crops])
    return stage_outputs


def test_shared_pass_gives_the_outputs_of_each_stage_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    ensemble = cascade_of_run(open_run(shared), Machine(engine="torch")).ensemble
    assert [member.stages for member in ensemble.members] == [("joint", *FROZEN)] * 3 + [("mask",)] * 3
    shared_outputs = outputs_of(shared, crops)
    monkeypatch.setattr(torch_engine, "families", lambda stages: [(name,) for name in stages])
    own_outputs = outputs_of(shared, crops)
    assert list(shared_outputs[0].logits) == list(own_outputs[0].logits) == ["joint", "mask", *FROZEN], (
        "in the recipe's order"
    )
    for fold, stage_outputs in own_outputs.items():
        for name, logits in stage_outputs.logits.items():
            np.testing.assert_allclose(shared_outputs[fold].logits[name], logits, atol=1e-5)
            np.testing.assert_allclose(shared_outputs[fold].embedding[name], stage_outputs.embedding[name], atol=1e-5)


def test_export_shares_backbones_and_predicts_the_same(shared: Path, drawn: Path, tmp_path: Path) -> None:
    manifest = json.loads(succeed("export", tmp_path / "e", "--artifacts", shared, "--json"))
    assert [network["stages"] for network in manifest["networks"]] == [["joint", *FROZEN], ["mask"]]
    assert max(max(network["off"]) for network in manifest["networks"]) < 1e-3
    for engine, run in (("torch", shared), ("onnx", tmp_path / "e"), ("openvino", tmp_path / "e")):
        succeed("infer", drawn / "eval", "--artifacts", run, "--engine", engine, "--output", tmp_path / engine)
    submissions = {
        engine: (tmp_path / engine / "submission.csv").read_text() for engine in ("torch", "onnx", "openvino")
    }
    assert submissions["torch"] == submissions["onnx"] == submissions["openvino"]


def test_freeze_all_with_augmentation_is_refused(fitted: Path) -> None:
    words = ["--artifacts", fitted, "--set", "freeze=all", "--dry-run", *TINY[2:4]]
    result = call("fit-stage", "gender", *words)
    assert (
        result.exit_code == 1 and "stages.gender.freeze computes the outputs of the frozen part once" in result.stderr
    )


@pytest.fixture(scope="module")
def published_backbone(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with gender and age as heads on a published backbone (here with random weights)."""
    folder = tmp_path_factory.mktemp("published_backbone")
    shutil.copytree(fitted, folder / "run", ignore=shutil.ignore_patterns(".lock"))
    torch.manual_seed(1)
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "w.safetensors")
    settings = [f"stages.{stage}.{key}" for stage in FROZEN for key in ("freeze=all", "augment=none", "size=[48,36]")]
    settings += [f"stages.{stage}.weights={folder / 'w.safetensors'}" for stage in FROZEN]
    words = [word for setting in settings for word in ("--set", setting)]
    succeed("fit-stage", *FROZEN, "--artifacts", folder / "run", *words, "--jobs", 2)
    succeed("fit-meta", "--artifacts", folder / "run")
    return folder / "run"


def test_published_backbone_is_one_network_for_all_folds(
    published_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    ensemble = cascade_of_run(open_run(published_backbone), Machine(engine="torch")).ensemble
    assert [member.folds for member in ensemble.members if member.stages == tuple(FROZEN)] == [(0, 1, 2)]
    shared_outputs = outputs_of(published_backbone, crops)
    monkeypatch.setattr(StageRecipe, "same_in_all_folds", False)
    own_outputs = outputs_of(published_backbone, crops)
    assert shared_outputs.keys() == own_outputs.keys() == {0, 1, 2}
    for fold, stage_outputs in own_outputs.items():
        for name, logits in stage_outputs.logits.items():
            np.testing.assert_allclose(shared_outputs[fold].logits[name], logits, atol=1e-5)
            np.testing.assert_allclose(shared_outputs[fold].embedding[name], stage_outputs.embedding[name], atol=1e-4)
    assert not np.allclose(own_outputs[0].logits["gender"], own_outputs[1].logits["gender"]), "the heads differ"


def test_features_of_a_published_backbone_are_cached_once(published_backbone: Path) -> None:
    assert len(list((published_backbone / "cache").glob("crops-*/frozen-*.npy"))) == 1


def test_export_of_a_published_backbone_serves_all_folds(published_backbone: Path, drawn: Path, tmp_path: Path) -> None:
    manifest = json.loads(succeed("export", tmp_path / "e", "--artifacts", published_backbone, "--json"))
    (network,) = [network for network in manifest["networks"] if network["stages"] == FROZEN]
    assert network["folds"] == [[0, 1, 2]] and len(network["files"]) == 1
    for engine, run in (("torch", published_backbone), ("onnx", tmp_path / "e")):
        succeed("infer", drawn / "eval", "--artifacts", run, "--engine", engine, "--output", tmp_path / engine)
    assert (tmp_path / "torch/submission.csv").read_text() == (tmp_path / "onnx/submission.csv").read_text()
    assert Exported.open(tmp_path / "e").ensemble("onnx", 1, folds=1).predict_all(
        np.zeros((1, 64, 48, 3), np.uint8)
    ).keys() == {0}
