"""Files of other programs are read as they were written; a damaged or hostile one is an error that speaks, and costs little."""

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
    KNOWN,
    damaged,
    dlib_integer,
    dlib_layer,
    dlib_tensor,
    onnx_file,
    whole_dlib,
    whole_ir,
    whole_tfjs,
    write_ir,
    write_tfjs,
)

from facecade.backbones.formats import dlib_file, onnx_graph, openvino_ir, tfjs
from facecade.base.errors import FacecadeError
from facecade.base.files import read_bytes

DAMAGE = (ValueError, KeyError)

SMALL = dlib_layer("con", dlib_tensor([1, 2, 3, 4])) + dlib_layer("affine", dlib_tensor([5, 6]))
SMALL += dlib_layer("fc", dlib_tensor(np.arange(6), (3, 2, 1, 1)))

ARRAYS = {"first/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "axes": np.array([1, 2], np.int32)}

CONSTANTS = [("Multiply", np.arange(3.0).reshape(1, 3)), ("Add", np.array(0.5)), ("Convolution", np.ones((2, 2)))]


def needed(action: Callable[[], object]) -> float:
    """The most memory that an action, which may fail, had at once, in megabytes."""
    tracemalloc.start()
    try:
        action()
    except (FacecadeError, *DAMAGE):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 2**20


# dlib


def test_dlib_layers_are_read_in_order() -> None:
    found = dlib_file.read_layers(b"\x01\x05begin" + SMALL + b"\x01\x06rest_1")
    assert {kind: [values.tolist() for values in each] for kind, each in found.items()} == {
        "con": [[1, 2, 3, 4]],
        "affine": [[5, 6]],
        "fc": [[0, 1, 2, 3, 4, 5]],
    }


def test_a_layers_name_among_numbers_is_no_layer() -> None:
    hidden = np.frombuffer(b"\x01\x05con_4" + b"\0" * 5, "<f4")
    found = dlib_file.read_layers(dlib_layer("con", dlib_tensor(hidden)))
    assert len(found["con"]) == 1


def test_a_dlib_file_cut_anywhere_within_a_layer_says_so() -> None:
    layer = dlib_layer("con", dlib_tensor(np.arange(300)))
    for end in [*range(len(layer) - 1204), *range(len(layer) - 1204, len(layer), 100)]:
        with pytest.raises(ValueError, match=r"cut short|no size|no convolution"):
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
def test_dlib_tensors_of_strange_sizes_are_refused(tensor: bytes) -> None:
    def read() -> None:
        dlib_file.read_layers(dlib_layer("con", tensor))

    with pytest.raises(ValueError):
        read()
    assert needed(read) < 1


@pytest.mark.parametrize("data", [b"", b"\x00" * 1000, b"con_4", b"\x80\x04\x95pickle"])
def test_what_is_no_dlib_file_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="no convolution"):
        dlib_file.read_layers(data)


# TensorFlow.js


def changed(folder: Path, **entry: Any) -> Path:
    """A small model whose first tensor says something else of itself."""
    path = write_tfjs(folder, ARRAYS)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["weights"][0].update(entry)
    path.write_text(json.dumps(model))
    return path


def test_tfjs_tensors_are_those_that_were_written(tmp_path: Path) -> None:
    found = tfjs.read_tensors(write_tfjs(tmp_path, ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_tfjs_bytes_in_several_files_are_one(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    whole, model = (tmp_path / "faceres-deep.bin").read_bytes(), json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] = ["a.bin", "b.bin"]
    (tmp_path / "a.bin").write_bytes(whole[:13])
    (tmp_path / "b.bin").write_bytes(whole[13:])
    path.write_text(json.dumps(model))
    np.testing.assert_array_equal(tfjs.read_tensors(path)["axes"], [1, 2])


def test_tfjs_bytes_cut_short_or_too_many_are_refused(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    data = (tmp_path / "faceres-deep.bin").read_bytes()
    for other in [*(data[:end] for end in range(len(data))), data + b"\0"]:
        (tmp_path / "faceres-deep.bin").write_bytes(other)
        with pytest.raises(ValueError, match=r"cut short|more than"):
            tfjs.read_tensors(path)


def test_a_tfjs_json_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    text = path.read_bytes()
    for end in range(len(text) - 1):
        path.write_bytes(text[:end])
        with pytest.raises(DAMAGE):
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
def test_tfjs_tensors_of_strange_kinds_and_sizes_are_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = changed(tmp_path, **entry)
    with pytest.raises(DAMAGE):
        tfjs.read_tensors(path)
    assert needed(lambda: tfjs.read_tensors(path)) < 4


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "a/b.bin", "..", ".", "", "a\0b", "gone.bin"])
def test_tfjs_bytes_lie_beside_the_json_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    (tmp_path / "model").mkdir()
    path = write_tfjs(tmp_path / "model", ARRAYS)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] = [name]
    path.write_text(json.dumps(model))
    with pytest.raises((ValueError, FacecadeError)):
        tfjs.read_tensors(path)


def test_a_tfjs_file_said_a_thousand_times_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] *= 1000
    path.write_text(json.dumps(model))
    (tmp_path / "faceres-deep.bin").write_bytes(bytes(200_000))
    assert needed(lambda: tfjs.read_tensors(path)) < 50, "200 MB in all"


# OpenVINO


def test_constants_of_an_ir_come_in_order_with_their_layers(tmp_path: Path) -> None:
    found = openvino_ir.read_constants(write_ir(tmp_path, CONSTANTS))
    assert [kind for kind, _ in found] == [kind for kind, _ in CONSTANTS]
    for (_, values), (_, wanted) in zip(found, CONSTANTS, strict=True):
        np.testing.assert_array_equal(values, wanted)
        assert values.dtype == np.float32


def test_an_ir_cut_short_is_refused(tmp_path: Path) -> None:
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


DECLARED = (
    '<?xml version="1.0"?>{}<net><layers><layer id="0" type="Const">'
    '<data element_type="f32" shape="{}" offset="0" /></layer><layer id="1" type="Add" /></layers>'
    '<edges><edge from-layer="0" to-layer="1" to-port="1" /></edges></net>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE net [<!ENTITY four "4">]>',
        '<!DOCTYPE net SYSTEM "/etc/passwd">',
        '<!DOCTYPE net [<!ENTITY % four SYSTEM "file:///etc/passwd"> %four;]>',
    ],
)
def test_an_ir_that_declares_entities_is_refused_in_any_encoding(tmp_path: Path, declared: str, encoding: str) -> None:
    (tmp_path / "net.bin").write_bytes(bytes(16))
    for shape in ("&four;", "4"):
        (tmp_path / "net.xml").write_bytes(DECLARED.format(declared, shape).encode(encoding))
        with pytest.raises(ValueError):
            openvino_ir.read_constants(tmp_path / "net.xml")


@pytest.mark.parametrize(
    ("said", "instead"),
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
def test_an_ir_of_strange_sizes_is_refused(tmp_path: Path, said: str, instead: str) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    path.write_text(path.read_text().replace(said, instead, 1))
    with pytest.raises(ValueError):
        openvino_ir.read_constants(path)
    assert needed(lambda: openvino_ir.read_constants(path)) < 4


def test_indices_of_an_ir_are_left_out(tmp_path: Path) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    path.write_text(path.read_text().replace('element_type="f16"', 'element_type="i64"', 1))
    assert [kind for kind, _ in openvino_ir.read_constants(path)] == ["Add", "Convolution"]
    with pytest.raises(FacecadeError, match="Multiply"):
        KNOWN["face_reid_0095"].tensors(path)


def test_an_ir_without_its_bin_names_it(tmp_path: Path) -> None:
    path = write_ir(tmp_path, CONSTANTS)
    path.with_suffix(".bin").unlink()
    with pytest.raises(FacecadeError, match=r"reid0095\.bin does not exist"):
        openvino_ir.read_constants(path)


def test_a_constant_that_a_thousand_layers_use_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write_ir(tmp_path, [("Add", np.zeros(50_000))])
    layers = "".join(f'<layer id="x{number}" type="Add" />' for number in range(1000))
    edges = "".join(f'<edge from-layer="0" to-layer="x{number}" to-port="1" />' for number in range(1000))
    text = path.read_text().replace("</layers>", f"{layers}</layers>").replace("</edges>", f"{edges}</edges>")
    path.write_text(text)
    assert needed(lambda: openvino_ir.read_constants(path)) < 50, "200 MB in all"


# ONNX


def test_onnx_constants_come_by_name_and_eight_bits_as_fractions() -> None:
    pytest.importorskip("onnx")
    values = np.array([[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]], np.int8)
    scales, zeros = (
        np.array([[1, 2, 3], [0.5, 0.25, 4]], np.float32),
        np.array([[0, 1, 2], [10, 0, 7]], np.int8),
    )
    arrays = {"b": np.array([1.5], np.float32), "w_quantized": values, "w_scales": scales, "w_zero_point": zeros}
    found = onnx_graph.read_constants(onnx_file(arrays, [("w", 1, 2)]))
    wanted = [[0, 1, (2 - 1) * 2, (3 - 1) * 2, (4 - 2) * 3], [0, 0.5, 12 * 0.25, 13 * 0.25, (14 - 7) * 4]]
    np.testing.assert_array_equal(found["w"], wanted)
    assert found["w"].dtype == np.float32 and found["b"].tolist() == [1.5]


def eight_bits(
    values: tuple[int, ...], scales: tuple[int, ...], zeros: tuple[int, ...] | None = None, **how: Any
) -> bytes:
    """A graph with one tensor of 8 bits, of such shapes."""
    arrays = {
        "w_quantized": np.ones(values, np.int8),
        "w_scales": np.ones(scales, np.float32),
        "w_zero_point": np.zeros(scales if zeros is None else zeros, np.int8),
    }
    return onnx_file(arrays, [("w", how.pop("axis", 0), how.pop("block", 2))], **how)


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
def test_onnx_scales_that_do_not_fit_are_refused(sizes: dict[str, Any]) -> None:
    pytest.importorskip("onnx")
    data = eight_bits(**sizes)
    with pytest.raises(DAMAGE):
        onnx_graph.read_constants(data)


def test_an_onnx_block_that_claims_gigabytes_does_not_fill_the_memory() -> None:
    pytest.importorskip("onnx")
    for block in (30_000_000, 2**40):
        data = eight_bits((4,), (1,), block=block)
        assert needed(lambda data=data: onnx_graph.read_constants(data)) < 4, "120 MB as it says"


def one_tensor(**said: Any) -> bytes:
    """A graph with one constant that says such things of itself."""
    from onnx import TensorProto, helper

    tensor = TensorProto(**{"name": "w", "data_type": 1, "dims": [4], "raw_data": bytes(16), **said})
    return bytes(helper.make_model(helper.make_graph([], "made", [], [], [tensor])).SerializeToString())


@pytest.mark.parametrize(
    "said",
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
def test_onnx_constants_of_strange_sizes_are_refused(said: dict[str, Any]) -> None:
    pytest.importorskip("onnx")
    data = one_tensor(**said)
    with pytest.raises(DAMAGE):
        onnx_graph.read_constants(data)
    assert needed(lambda: onnx_graph.read_constants(data)) < 1


def test_onnx_constants_of_other_types_are_left_out() -> None:
    pytest.importorskip("onnx")
    assert not onnx_graph.read_constants(onnx_file({"w": np.zeros(3, np.float64), "b": np.zeros(3, bool)}))


def test_onnx_constants_in_another_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "elsewhere").write_bytes(bytes(16))
    monkeypatch.chdir(tmp_path)
    place = onnx.StringStringEntryProto(key="location", value="elsewhere")
    data = one_tensor(raw_data=b"", data_location=1, external_data=[place])
    with pytest.raises(ValueError, match="another file"):
        onnx_graph.read_constants(data)


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"PK\x03\x04", b"<net></net>"])
def test_what_is_no_onnx_is_refused(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "w.onnx").write_bytes(data)
    with pytest.raises(FacecadeError, match="weights of sface"):
        KNOWN["sface"].tensors(tmp_path / "w.onnx")


# Any of them, damaged


def small_files(folder: Path) -> dict[str, list[Path]]:
    """Of each format a small file, and those beside it."""
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
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    random, files = np.random.default_rng(5), small_files(tmp_path).get(kind)
    if files is None:
        pytest.skip("onnx is not installed")
    whole = {path: path.read_bytes() for path in files}
    plain = replace(KNOWN["sface"], read=READERS[kind])  # type: ignore[arg-type]
    refused = 0
    for _ in range(300):
        victim = files[int(random.integers(len(files)))]
        victim.write_bytes(damaged(whole[victim], random))
        try:
            READERS[kind](files[0])
        except FacecadeError:
            pass
        except DAMAGE:
            with pytest.raises(FacecadeError, match="cannot be read as weights"):
                plain.tensors(files[0])
            refused += 1
        victim.write_bytes(whole[victim])
    assert 50 < refused < 300


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", ["dlib_resnet29", "face_reid_0095", "faceres"])
def test_a_damaged_file_of_a_whole_network_gives_its_tensors_or_an_error(tmp_path: Path, name: str) -> None:
    if name == "dlib_resnet29":
        (tmp_path / "w.dat").write_bytes(whole_dlib())
        files = [tmp_path / "w.dat"]
    else:
        path = (whole_ir if name == "face_reid_0095" else whole_tfjs)(tmp_path)
        files = [path, path.with_suffix(".bin")]
    random, whole = np.random.default_rng(6), {path: path.read_bytes() for path in files}
    wanted = KNOWN[name].tensors(files[0])
    assert all(isinstance(value, torch.Tensor) for value in wanted.values())
    for _ in range(8):
        victim = files[int(random.integers(len(files)))]
        victim.write_bytes(damaged(whole[victim], random))
        try:
            found = KNOWN[name].tensors(files[0])
        except FacecadeError as error:
            assert error.hint
        else:
            assert {key: value.shape for key, value in found.items()} == {k: v.shape for k, v in wanted.items()}
        victim.write_bytes(whole[victim])


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"weightsManifest": 3}', "[]", "null", '{"weightsManifest": [{}]}', ""]
)
def test_a_json_of_another_shape_is_an_error_that_speaks(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(FacecadeError, match="cannot be read as weights of faceres") as caught:
        KNOWN["faceres"].tensors(tmp_path / "m.json")
    assert "human-models" in caught.value.hint


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.dat").write_bytes(SMALL)
    write_tfjs(tmp_path, ARRAYS)
    write_ir(tmp_path, CONSTANTS)
    for name, file in (
        ("dlib_resnet29", "w.dat"),
        ("faceres", "faceres-deep.json"),
        ("face_reid_0095", "reid0095.xml"),
    ):
        with pytest.raises(FacecadeError, match=f"cannot be read as weights of {name}") as caught:
            KNOWN[name].tensors(tmp_path / file)
        assert caught.value.hint


# Files themselves


@pytest.mark.parametrize("name", list(KNOWN))
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty"])
def test_what_is_no_file_is_an_error_that_speaks(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "w"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)  # to open it would wait for ever
    if kind == "empty":
        path.touch()
    with pytest.raises(FacecadeError):
        KNOWN[name].tensors(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "w").open("wb") as file:
        file.truncate(2**40)  # of zeros that take no place
    assert needed(lambda: read_bytes(tmp_path / "w", 1000)) < 1
    with pytest.raises(FacecadeError, match="over the 1,000"):
        read_bytes(tmp_path / "w", 1000)
    for pretrained in KNOWN.values():
        with pytest.raises(FacecadeError, match="over the"):
            pretrained.tensors(tmp_path / "w")


def test_a_small_file_takes_little_memory_whatever_it_might_have_had(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"12345")
    assert read_bytes(tmp_path / "w", 5) == read_bytes(tmp_path / "w", 2**29) == b"12345"
    assert needed(lambda: read_bytes(tmp_path / "w", 2**29)) < 1
