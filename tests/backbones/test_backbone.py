"""Backbones return embedding and logits; weights are loaded, or an error names alternatives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facecade.backbones.backbone import Backbone
from facecade.backbones.catalog import IMAGENET
from facecade.backbones.weights import load_weights, package_weights
from facecade.base.errors import FacecadeError

SIZE = (48, 32)


def tiny(outputs: int = 3) -> Backbone:
    return Backbone("test_efficientnet", outputs, SIZE).eval()


def some_images() -> torch.Tensor:
    return torch.randint(0, 255, (2, *SIZE, 3), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit"])
def test_embedding_and_logits_of_model_families(name: str) -> None:
    backbone = Backbone(name, 5, SIZE).eval()
    embedding, logits = backbone(some_images())
    assert embedding.ndim == 2 and logits.shape == (2, 5)
    assert torch.allclose(logits, backbone.model.get_classifier()(embedding))


def test_outputs_are_those_of_timm() -> None:
    backbone, images = tiny(), some_images()
    config = backbone.model.pretrained_cfg
    pixels = images.permute(0, 3, 1, 2).float() / 255
    normal = (pixels - torch.tensor(config["mean"]).view(1, 3, 1, 1)) / torch.tensor(config["std"]).view(1, 3, 1, 1)
    assert torch.allclose(backbone(images)[1], backbone.model(normal), atol=1e-5)


def test_an_unknown_backbone_suggests_the_nearest() -> None:
    with pytest.raises(FacecadeError) as caught:
        Backbone("resnext50d_32x4", 2, SIZE)
    assert "resnext50d_32x4d" in caught.value.hint


def test_a_file_with_another_head_keeps_the_new_head(tmp_path: Path) -> None:
    source, own = tiny(1000), tiny(3)
    head = own.model.get_classifier().weight.clone()
    save_file(source.model.state_dict(), tmp_path / "w.safetensors")
    load_weights(own, "test_efficientnet", str(tmp_path / "w.safetensors"))
    assert torch.equal(own.model.get_classifier().weight, head)
    assert torch.equal(own.model.conv_stem.weight, source.model.conv_stem.weight)


def test_head_rows_are_copied_from_another_head(tmp_path: Path) -> None:
    source, own, initial = tiny(5), tiny(3), tiny(3)
    own.load_state_dict(initial.state_dict())
    save_file(source.model.state_dict(), tmp_path / "w.safetensors")
    load_weights(own, "test_efficientnet", str(tmp_path / "w.safetensors"), [4, -1, 2])
    images = some_images()
    logits, source_logits = own(images)[1], source(images)[1]
    assert torch.allclose(logits[:, [0, 2]], source_logits[:, [4, 2]], atol=1e-6)
    assert torch.equal(own.model.get_classifier().weight[1], initial.model.get_classifier().weight[1])


def test_weights_of_another_model_are_an_error(tmp_path: Path) -> None:
    other = Backbone("test_resnet", 3, SIZE)
    save_file(other.model.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(FacecadeError, match="do not fit test_efficientnet"):
        load_weights(tiny(), "test_efficientnet", str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(("weights", "message"), [("nowhere.pth", "no weights at"), ("package", "no package carries")])
def test_missing_weights_are_an_error_with_alternatives(weights: str, message: str) -> None:
    with pytest.raises(FacecadeError, match=message) as caught:
        load_weights(tiny(), "test_efficientnet", weights)
    assert "none" in caught.value.hint and "FILE" in caught.value.hint


def test_an_unreachable_hub_is_an_error_with_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def unreachable(*arguments: object, **named: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(FacecadeError, match="the hub gave no weights") as caught:
        load_weights(Backbone.__new__(Backbone), "test_efficientnet", "hub")
    assert "package" in caught.value.hint


@pytest.mark.parametrize("name", [entry.backbone for entry in IMAGENET])
def test_package_weights_are_loaded(name: str) -> None:
    try:
        package_weights(name)
    except FacecadeError as error:
        pytest.skip(str(error))
    backbone = Backbone(name, 3, SIZE)
    before = backbone.model.conv_stem.weight.clone()
    load_weights(backbone, name, "package")
    assert not torch.equal(before, backbone.model.conv_stem.weight)
    # the running statistics of ImageNet, not the initial ones
    variances = [buffer for key, buffer in backbone.model.named_buffers() if key.endswith("running_var")]
    assert len(variances) > 40 and all((variance >= 0).all() and variance.std() > 0 for variance in variances)
