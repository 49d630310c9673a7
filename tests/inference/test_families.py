"""Stages that freeze another's whole backbone answer by one pass through it, and no otherwise than alone."""

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


def test_who_shares_a_backbone() -> None:
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


def test_a_frozen_stage_has_the_backbone_it_started_from(shared: Path) -> None:
    for fold in range(3):
        weights = {
            name: load_file(shared / "stages" / name / f"fold{fold}/weights.safetensors") for name in ("joint", *FROZEN)
        }
        for name in FROZEN:
            own, differ = weights[name], set()
            for key, value in own.items():
                joint = weights["joint"][key]
                if value.shape != joint.shape or not torch.equal(value, joint):
                    differ.add(key)
            assert differ == {"model.classifier.weight", "model.classifier.bias"}


def heard(run: Path, crops: np.ndarray) -> dict[int, StageOutputs]:
    cascade = cascade_of_run(open_run(run), Machine(engine="torch"))
    (stage_outputs,) = cascade.ensemble.predict_chunks([crops])
    return stage_outputs


def test_one_pass_says_what_each_stage_says_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    ensemble = cascade_of_run(open_run(shared), Machine(engine="torch")).ensemble
    assert [member.stages for member in ensemble.members] == [("joint", *FROZEN)] * 3 + [("mask",)] * 3
    together = heard(shared, crops)
    monkeypatch.setattr(torch_engine, "families", lambda stages: [(name,) for name in stages])
    alone = heard(shared, crops)
    assert list(together[0].logits) == list(alone[0].logits) == ["joint", "mask", *FROZEN], "in the recipe's order"
    for fold, stage_outputs in alone.items():
        for name, logits in stage_outputs.logits.items():
            np.testing.assert_allclose(together[fold].logits[name], logits, atol=1e-5)
            np.testing.assert_allclose(together[fold].embedding[name], stage_outputs.embedding[name], atol=1e-5)


def test_an_export_shares_too_and_answers_alike(shared: Path, drawn: Path, tmp_path: Path) -> None:
    manifest = json.loads(succeed("export", tmp_path / "e", "--artifacts", shared, "--json"))
    assert [network["stages"] for network in manifest["networks"]] == [["joint", *FROZEN], ["mask"]]
    assert max(max(network["off"]) for network in manifest["networks"]) < 1e-3
    for engine, run in (("torch", shared), ("onnx", tmp_path / "e"), ("openvino", tmp_path / "e")):
        succeed("infer", drawn / "eval", "--artifacts", run, "--engine", engine, "--output", tmp_path / engine)
    answers = {engine: (tmp_path / engine / "submission.csv").read_text() for engine in ("torch", "onnx", "openvino")}
    assert answers["torch"] == answers["onnx"] == answers["openvino"]


def test_freezing_and_augmenting_are_refused_together(fitted: Path) -> None:
    words = ["--artifacts", fitted, "--set", "freeze=all", "--dry-run", *TINY[2:4]]
    result = call("fit-stage", "gender", *words)
    assert result.exit_code == 1 and "stages.gender.freeze computes what images become once" in result.stderr


@pytest.fixture(scope="module")
def borrowed(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with gender and age as heads on a backbone that others trained."""
    folder = tmp_path_factory.mktemp("borrowed")
    shutil.copytree(fitted, folder / "run", ignore=shutil.ignore_patterns(".lock"))
    torch.manual_seed(1)
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "w.safetensors")
    settings = [f"stages.{stage}.{key}" for stage in FROZEN for key in ("freeze=all", "augment=none", "size=[48,36]")]
    settings += [f"stages.{stage}.weights={folder / 'w.safetensors'}" for stage in FROZEN]
    words = [word for setting in settings for word in ("--set", setting)]
    succeed("fit-stage", *FROZEN, "--artifacts", folder / "run", *words, "--jobs", 2)
    succeed("fit-meta", "--artifacts", folder / "run")
    return folder / "run"


def test_a_backbone_that_others_trained_is_one_network_for_all_folds(
    borrowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    ensemble = cascade_of_run(open_run(borrowed), Machine(engine="torch")).ensemble
    assert [member.folds for member in ensemble.members if member.stages == tuple(FROZEN)] == [(0, 1, 2)]
    together = heard(borrowed, crops)
    monkeypatch.setattr(StageRecipe, "same_in_all_folds", False)
    alone = heard(borrowed, crops)
    assert together.keys() == alone.keys() == {0, 1, 2}
    for fold, stage_outputs in alone.items():
        for name, logits in stage_outputs.logits.items():
            np.testing.assert_allclose(together[fold].logits[name], logits, atol=1e-5)
            np.testing.assert_allclose(together[fold].embedding[name], stage_outputs.embedding[name], atol=1e-4)
    assert not np.allclose(alone[0].logits["gender"], alone[1].logits["gender"]), "the heads differ"


def test_its_features_are_kept_once_beside_the_crops(borrowed: Path) -> None:
    assert len(list((borrowed / "cache").glob("crops-*/frozen-*.npy"))) == 1


def test_its_export_answers_for_all_folds_too(borrowed: Path, drawn: Path, tmp_path: Path) -> None:
    manifest = json.loads(succeed("export", tmp_path / "e", "--artifacts", borrowed, "--json"))
    (network,) = [network for network in manifest["networks"] if network["stages"] == FROZEN]
    assert network["folds"] == [[0, 1, 2]] and len(network["files"]) == 1
    for engine, run in (("torch", borrowed), ("onnx", tmp_path / "e")):
        succeed("infer", drawn / "eval", "--artifacts", run, "--engine", engine, "--output", tmp_path / engine)
    assert (tmp_path / "torch/submission.csv").read_text() == (tmp_path / "onnx/submission.csv").read_text()
    assert Exported.open(tmp_path / "e").ensemble("onnx", 1, folds=1).predict_all(
        np.zeros((1, 64, 48, 3), np.uint8)
    ).keys() == {0}
