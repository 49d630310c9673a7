"""Files of other programs are read correctly; a damaged or malicious file is a clear error, at little cost."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from origins import (
    PRETRAINED,
    damaged,
    dlib_integer,
    dlib_layer,
    dlib_network_file,
    dlib_tensor,
    onnx_file,
    openvino_network_file,
    tfjs_network_file,
    write_ir,
    write_tfjs,
)

from facecade.backbones.formats import dlib_file, onnx_graph, openvino_ir, tfjs
from facecade.base.errors import FacecadeError
from facecade.base.files import read_bytes

DAMAGE_ERRORS = (ValueError, KeyError)

SMALL = dlib_layer("con", dlib_tensor([1, 2, 3, 4])) + dlib_layer("affine", dlib_tensor([5, 6]))
SMALL += dlib_layer("fc", dlib_tensor(np.arange(6), (3, 2, 1, 1)))

ARRAYS = {"first/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "axes": np.array([1, 2], np.int32)}

CONSTANTS = [("Multiply", np.arange(3.0).reshape(1, 3)), ("Add", np.array(0.5)), ("Convolution", np.ones((2, 2)))]


def peak_megabytes(action: Callable[[], object]) -> float:
    """Peak memory, in megabytes, of an action that may fail."""
    tracemalloc.start()
    try:
        action()
    except (FacecadeError, *DAMAGE_ERRORS):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 2**20


# dlib


def test_dlib_layers_are_read_in_order() -> None:
    layers = dlib_file.read_layers(b"\x01\x05begin" + SMALL + b"\x01\x06rest_1")
    assert {kind: [values.tolist() for values in tensors] for kind, tensors in layers.items()} == {
        "con": [[1, 2, 3, 4]],
        "affine": [[5, 6]],
        "fc": [[0, 1, 2, 3, 4, 5]],
    }


def test_the_name_of_a_layer_within_a_tensor_is_ignored() -> None:
    hidden = np.frombuffer(b"\x01\x05con_4" + b"\0" * 5, "<f4")
    layers = dlib_file.read_layers(dlib_layer("con", dlib_tensor(hidden)))
    assert len(layers["con"]) == 1


def test_a_dlib_file_truncated_within_a_layer_is_an_error() -> None:
    layer = dlib_layer("con", dlib_tensor(np.arange(300)))
    for end in [*range(len(layer) - 1204), *range(len(layer) - 1204, len(layer), 100)]:
        with pytest.raises(ValueError, match=r"cut short|invalid size|no convolution"):
            dlib_file.read_layers(layer[:end])


@pytest.mark.parametrize(
    "tensor",
    [
        dlib_tensor([1.0], version=1),
        dlib_tensor([1.0], (2**40, 1, 1, 1)),
        dlib_tensor([1.0], (2**16, 2**16, 2**16, 2**16)),
        dlib_tensor([1.0], (2**63, 2**63, 2**63, 2**63)),
        dlib_tensor([1.0], (49_999_999, 1, 1, 1)),
        dlib_tensor([], (1, 0, 1, 1)),
        b"\x81\x02" + dlib_tensor([1.0])[2:],  # a negative integer
        b"\x0f" + bytes(15) + dlib_tensor([1.0]),
        dlib_integer(2),
        b"",
    ],
)
def test_dlib_tensors_of_wrong_sizes_are_errors(tensor: bytes) -> None:
    def read() -> None:
        dlib_file.read_layers(dlib_layer("con", tensor))

    with pytest.raises(ValueError):
        read()
    assert peak_megabytes(read) < 1


@pytest.mark.parametrize("data", [b"", b"\x00" * 1000, b"con_4", b"\x80\x04\x95pickle"])
def test_a_file_that_is_not_of_dlib_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no convolution"):
        dlib_file.read_layers(data)


# TensorFlow.js


def write_changed(folder: Path, **entry: Any) -> Path:
    """A small model with a changed entry of its first tensor."""
    path = write_tfjs(folder, ARRAYS)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["weights"][0].update(entry)
    path.write_text(json.dumps(model))
    return path


def test_tfjs_tensors(tmp_path: Path) -> None:
    tensors = tfjs.read_tensors(write_tfjs(tmp_path, ARRAYS))
    assert tensors.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(tensors[name], values)
        assert tensors[name].dtype == values.dtype


def test_tfjs_tensors_in_several_files(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    data, model = (tmp_path / "faceres-deep.bin").read_bytes(), json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] = ["a.bin", "b.bin"]
    (tmp_path / "a.bin").write_bytes(data[:13])
    (tmp_path / "b.bin").write_bytes(data[13:])
    path.write_text(json.dumps(model))
    np.testing.assert_array_equal(tfjs.read_tensors(path)["axes"], [1, 2])


def test_tfjs_files_of_wrong_length_are_errors(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    data = (tmp_path / "faceres-deep.bin").read_bytes()
    for changed in [*(data[:end] for end in range(len(data))), data + b"\0"]:
        (tmp_path / "faceres-deep.bin").write_bytes(changed)
        with pytest.raises(ValueError, match=r"cut short|more than"):
            tfjs.read_tensors(path)


def test_a_truncated_tfjs_json_is_an_error(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    text = path.read_bytes()
    for end in range(len(text) - 1):
        path.write_bytes(text[:end])
        with pytest.raises(DAMAGE_ERRORS):
            tfjs.read_tensors(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "uint8"},
        {"dtype": "float16"},
        {"dtype": "bool"},
        {"dtype": "string"},
        {"quantization": {"dtype": "uint8", "scale": 0.1, "min": 0}},
        {"shape": [2, 4]},
        {"shape": [2, -3]},
        {"shape": [-2, -3]},
        {"shape": [2**40, 2**40]},
        {"shape": [0, 10**30]},
        {"shape": [1] * 70},
        {"shape": ["a"]},
        {"shape": [float("inf")]},
        {"shape": [float("nan")]},
    ],
)
def test_tfjs_tensors_of_wrong_types_and_shapes_are_errors(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = write_changed(tmp_path, **entry)
    with pytest.raises(DAMAGE_ERRORS):
        tfjs.read_tensors(path)
    assert peak_megabytes(lambda: tfjs.read_tensors(path)) < 4


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "a/b.bin", "..", ".", "", "a\0b", "gone.bin"])
def test_tfjs_files_must_be_in_the_folder_of_the_json(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    (tmp_path / "model").mkdir()
    path = write_tfjs(tmp_path / "model", ARRAYS)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] = [name]
    path.write_text(json.dumps(model))
    with pytest.raises((ValueError, FacecadeError)):
        tfjs.read_tensors(path)


def test_a_tfjs_file_listed_a_thousand_times_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] *= 1000
    path.write_text(json.dumps(model))
    (tmp_path / "faceres-deep.bin").write_bytes(bytes(200_000))
    assert peak_megabytes(lambda: tfjs.read_tensors(path)) < 50, "200 MB in all"


# OpenVINO


def test_constants_of_an_ir_are_in_order_with_their_layers(tmp_path: Path) -> None:
    constants = openvino_ir.read_constants(write_ir(tmp_path, CONSTANTS))
    assert [kind for kind, _ in constants] == [kind for kind, _ in CONSTANTS]
    for (_, values), (_, expected) in zip(constants, CONSTANTS, strict=True):
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == np.float32


def test_a_truncated_ir_is_an_error(tmp_path: Path) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    text, data = path.read_bytes().rstrip(), path.with_suffix(".bin").read_bytes()
    for end in range(len(data)):
        path.with_suffix(".bin").write_bytes(data[:end])
        with pytest.raises(ValueError, match="cut short"):
            openvino_ir.read_constants(path)
    path.with_suffix(".bin").write_bytes(data)
    for end in range(0, len(text), 7):
        path.write_bytes(text[:end])
        with pytest.raises(ValueError):
            openvino_ir.read_constants(path)


IR_TEMPLATE = (
    '<?xml version="1.0"?>{}<net><layers><layer id="0" type="Const">'
    '<data element_type="f32" shape="{}" offset="0" /></layer><layer id="1" type="Add" /></layers>'
    '<edges><edge from-layer="0" to-layer="1" to-port="1" /></edges></net>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE net [<!ENTITY four "4">]>',
        '<!DOCTYPE net SYSTEM "/etc/passwd">',
        '<!DOCTYPE net [<!ENTITY % four SYSTEM "file:///etc/passwd"> %four;]>',
    ],
)
def test_an_ir_with_entities_is_an_error_in_any_encoding(tmp_path: Path, doctype: str, encoding: str) -> None:
    (tmp_path / "net.bin").write_bytes(bytes(16))
    for shape in ("&four;", "4"):
        (tmp_path / "net.xml").write_bytes(IR_TEMPLATE.format(doctype, shape).encode(encoding))
        with pytest.raises(ValueError):
            openvino_ir.read_constants(tmp_path / "net.xml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('shape="1, 3"', 'shape="1, 999999999999"'),
        ('shape="1, 3"', 'shape="-1, -3"'),
        ('shape="1, 3"', 'shape="one"'),
        ('shape="1, 3"', f'shape="{"9" * 5000}"'),
        ('shape="1, 3"', f'shape="0, {"9" * 30}"'),
        ('shape="1, 3"', f'shape="{"1, " * 70}1"'),
        ('offset="0"', 'offset="-6"'),
        ('offset="0"', 'offset="99999999999999999999"'),
        ('offset="0"', 'offset="x"'),
        ('to-port="1"', 'to-port="x"'),
    ],
)
def test_an_ir_of_wrong_sizes_is_an_error(tmp_path: Path, old: str, new: str) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError):
        openvino_ir.read_constants(path)
    assert peak_megabytes(lambda: openvino_ir.read_constants(path)) < 4


def test_integer_constants_of_an_ir_are_ignored(tmp_path: Path) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    path.write_text(path.read_text().replace('element_type="f16"', 'element_type="i64"', 1))
    assert [kind for kind, _ in openvino_ir.read_constants(path)] == ["Add", "Convolution"]
    with pytest.raises(FacecadeError, match="Multiply"):
        PRETRAINED["face_reid_0095"].tensors(path)


def test_an_ir_without_its_bin_is_an_error(tmp_path: Path) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    path.with_suffix(".bin").unlink()
    with pytest.raises(FacecadeError, match=r"reid0095\.bin does not exist"):
        openvino_ir.read_constants(path)


def test_a_constant_of_a_thousand_layers_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write_ir(tmp_path, [("Add", np.zeros(50_000))])
    layers = "".join(f'<layer id="x{number}" type="Add" />' for number in range(1000))
    edges = "".join(f'<edge from-layer="0" to-layer="x{number}" to-port="1" />' for number in range(1000))
    text = path.read_text().replace("</layers>", f"{layers}</layers>").replace("</edges>", f"{edges}</edges>")
    path.write_text(text)
    assert peak_megabytes(lambda: openvino_ir.read_constants(path)) < 50, "200 MB in all"


# ONNX


def test_onnx_constants_by_name_with_8_bits_dequantized() -> None:
    pytest.importorskip("onnx")
    values = np.array([[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]], np.int8)
    scales, zeros = (
        np.array([[1, 2, 3], [0.5, 0.25, 4]], np.float32),
        np.array([[0, 1, 2], [10, 0, 7]], np.int8),
    )
    arrays = {"b": np.array([1.5], np.float32), "w_quantized": values, "w_scales": scales, "w_zero_point": zeros}
    constants = onnx_graph.read_constants(onnx_file(arrays, [("w", 1, 2)]))
    expected = [[0, 1, (2 - 1) * 2, (3 - 1) * 2, (4 - 2) * 3], [0, 0.5, 12 * 0.25, 13 * 0.25, (14 - 7) * 4]]
    np.testing.assert_array_equal(constants["w"], expected)
    assert constants["w"].dtype == np.float32 and constants["b"].tolist() == [1.5]


def quantized_graph(
    values: tuple[int, ...], scales: tuple[int, ...], zeros: tuple[int, ...] | None = None, **options: Any
) -> bytes:
    """A graph with one 8-bit tensor; the shapes of its values, scales and zero points."""
    arrays = {
        "w_quantized": np.ones(values, np.int8),
        "w_scales": np.ones(scales, np.float32),
        "w_zero_point": np.zeros(scales if zeros is None else zeros, np.int8),
    }
    return onnx_file(arrays, [("w", options.pop("axis", 0), options.pop("block", 2))], **options)


@pytest.mark.parametrize(
    "sizes",
    [
        {"values": (4,), "scales": (1,)},
        {"values": (4,), "scales": (2,), "zeros": (3,)},
        {"values": (4,), "scales": (2,), "block": 0},
        {"values": (4,), "scales": (2,), "block": -1},
        {"values": (4,), "scales": (2,), "axis": 3},
        {"values": (4, 4), "scales": (2,), "axis": 1},
        {"values": (4, 4), "scales": (2, 3)},
        {"values": (), "scales": ()},
        {"values": (4,), "scales": (2,), "inputs": 2},
        {"values": (4,), "scales": (2,), "outputs": 0},
        {"values": (5000, 1), "scales": (1, 5000), "block": 5000},
    ],
)
def test_onnx_scales_that_do_not_fit_are_errors(sizes: dict[str, Any]) -> None:
    pytest.importorskip("onnx")
    data = quantized_graph(**sizes)
    with pytest.raises(DAMAGE_ERRORS):
        onnx_graph.read_constants(data)


def test_an_onnx_block_of_gigabytes_does_not_fill_the_memory() -> None:
    pytest.importorskip("onnx")
    for block in (30_000_000, 2**40):
        data = quantized_graph((4,), (1,), block=block)
        assert peak_megabytes(lambda data=data: onnx_graph.read_constants(data)) < 4, "its block size means 120 MB"


def one_tensor(**fields: Any) -> bytes:
    """A graph with one constant, which has these protobuf fields."""
    from onnx import TensorProto, helper

    tensor = TensorProto(**{"name": "w", "data_type": 1, "dims": [4], "raw_data": bytes(16), **fields})
    return bytes(helper.make_model(helper.make_graph([], "made", [], [], [tensor])).SerializeToString())


@pytest.mark.parametrize(
    "fields",
    [
        {"dims": [10**12]},
        {"dims": [2**62, 4]},
        {"dims": [0, 2**62, 2**62], "raw_data": b""},
        {"dims": [5]},
        {"raw_data": bytes(15)},
        {"raw_data": b""},
        {"data_type": 0},
        {"data_type": 77},
    ],
)
def test_onnx_constants_of_wrong_sizes_are_errors(fields: dict[str, Any]) -> None:
    pytest.importorskip("onnx")
    data = one_tensor(**fields)
    with pytest.raises(DAMAGE_ERRORS):
        onnx_graph.read_constants(data)
    assert peak_megabytes(lambda: onnx_graph.read_constants(data)) < 1


def test_onnx_constants_of_other_types_are_ignored() -> None:
    pytest.importorskip("onnx")
    assert not onnx_graph.read_constants(onnx_file({"w": np.zeros(3, np.float64), "b": np.zeros(3, bool)}))


def test_onnx_constants_in_another_file_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "elsewhere").write_bytes(bytes(16))
    monkeypatch.chdir(tmp_path)
    location = onnx.StringStringEntryProto(key="location", value="elsewhere")
    data = one_tensor(raw_data=b"", data_location=1, external_data=[location])
    with pytest.raises(ValueError, match="another file"):
        onnx_graph.read_constants(data)


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"PK\x03\x04", b"<net></net>"])
def test_a_file_that_is_not_onnx_is_an_error(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "w.onnx").write_bytes(data)
    with pytest.raises(FacecadeError, match="weights of sface"):
        PRETRAINED["sface"].tensors(tmp_path / "w.onnx")


# Damaged files of all formats


def small_files(folder: Path) -> dict[str, list[Path]]:
    """Small files of each format."""
    (folder / "w.dat").write_bytes(SMALL)
    files = {
        "dlib": [folder / "w.dat"],
        "tfjs": [write_tfjs(folder, ARRAYS), folder / "faceres-deep.bin"],
        "ir": [write_ir(folder, CONSTANTS), folder / "reid0095.bin"],
    }
    try:
        arrays = {"b": np.ones(2, np.float32), "w_quantized": np.ones((2, 4), np.int8)}
        arrays |= {"w_scales": np.ones((2, 2), np.float32), "w_zero_point": np.zeros((2, 2), np.int8)}
        (folder / "w.onnx").write_bytes(onnx_file(arrays, [("w", 1, 2)]))
    except ImportError:
        return files
    return {**files, "onnx": [folder / "w.onnx"]}


READERS: dict[str, Callable[[Path], object]] = {
    "dlib": lambda path: dlib_file.read_layers(path.read_bytes()),
    "tfjs": tfjs.read_tensors,
    "ir": openvino_ir.read_constants,
    "onnx": lambda path: onnx_graph.read_constants(path.read_bytes()),
}


@pytest.mark.parametrize("kind", list(READERS))
def test_a_damaged_file_is_read_or_an_error(tmp_path: Path, kind: str) -> None:
    random, files = np.random.default_rng(5), small_files(tmp_path).get(kind)
    if files is None:
        pytest.skip("onnx is not installed")
    originals = {path: path.read_bytes() for path in files}
    pretrained = replace(PRETRAINED["sface"], read=READERS[kind])  # type: ignore[arg-type]
    errors = 0
    for _ in range(300):
        path_to_damage = files[int(random.integers(len(files)))]
        path_to_damage.write_bytes(damaged(originals[path_to_damage], random))
        try:
            READERS[kind](files[0])
        except FacecadeError:
            pass
        except DAMAGE_ERRORS:
            with pytest.raises(FacecadeError, match="cannot be read as weights"):
                pretrained.tensors(files[0])
            errors += 1
        path_to_damage.write_bytes(originals[path_to_damage])
    assert 50 < errors < 300


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", ["dlib_resnet29", "face_reid_0095", "faceres"])
def test_a_damaged_file_of_a_network_gives_its_tensors_or_an_error(tmp_path: Path, name: str) -> None:
    if name == "dlib_resnet29":
        (tmp_path / "w.dat").write_bytes(dlib_network_file())
        files = [tmp_path / "w.dat"]
    else:
        path = (openvino_network_file if name == "face_reid_0095" else tfjs_network_file)(tmp_path)
        files = [path, path.with_suffix(".bin")]
    random, originals = np.random.default_rng(6), {path: path.read_bytes() for path in files}
    expected = PRETRAINED[name].tensors(files[0])
    assert all(isinstance(value, torch.Tensor) for value in expected.values())
    for _ in range(8):
        path_to_damage = files[int(random.integers(len(files)))]
        path_to_damage.write_bytes(damaged(originals[path_to_damage], random))
        try:
            tensors = PRETRAINED[name].tensors(files[0])
        except FacecadeError as error:
            assert error.hint
        else:
            assert {key: value.shape for key, value in tensors.items()} == {k: v.shape for k, v in expected.items()}
        path_to_damage.write_bytes(originals[path_to_damage])


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"weightsManifest": 3}', "[]", "null", '{"weightsManifest": [{}]}', ""]
)
def test_a_json_of_another_structure_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(FacecadeError, match="cannot be read as weights of faceres") as caught:
        PRETRAINED["faceres"].tensors(tmp_path / "m.json")
    assert "human-models" in caught.value.hint


def test_a_file_of_another_network_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "w.dat").write_bytes(SMALL)
    write_tfjs(tmp_path, ARRAYS)
    write_ir(tmp_path, CONSTANTS)
    for name, file in (
        ("dlib_resnet29", "w.dat"),
        ("faceres", "faceres-deep.json"),
        ("face_reid_0095", "reid0095.xml"),
    ):
        with pytest.raises(FacecadeError, match=f"cannot be read as weights of {name}") as caught:
            PRETRAINED[name].tensors(tmp_path / file)
        assert caught.value.hint


# Any file


@pytest.mark.parametrize("name", list(PRETRAINED))
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty"])
def test_a_path_that_is_not_a_file_is_an_error(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "w"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)  # opening it would block
    if kind == "empty":
        path.touch()
    with pytest.raises(FacecadeError):
        PRETRAINED[name].tensors(path)


def test_a_file_over_the_size_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "w").open("wb") as file:
        file.truncate(2**40)  # sparse
    assert peak_megabytes(lambda: read_bytes(tmp_path / "w", 1000)) < 1
    with pytest.raises(FacecadeError, match="more than the allowed 1,000"):
        read_bytes(tmp_path / "w", 1000)
    for pretrained in PRETRAINED.values():
        with pytest.raises(FacecadeError, match="more than the allowed"):
            pretrained.tensors(tmp_path / "w")


def test_reading_a_small_file_does_not_allocate_its_size_limit(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"12345")
    assert read_bytes(tmp_path / "w", 5) == read_bytes(tmp_path / "w", 2**29) == b"12345"
    assert peak_megabytes(lambda: read_bytes(tmp_path / "w", 2**29)) < 1
