"""An ONNX model with tensors in other files is refused before an engine sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facecade.base.errors import FacecadeError
from facecade.inference.engines import ENGINES, installed, load
from facecade.inference.onnx_file import require_own_tensors

onnx: Any = pytest.importorskip("onnx")


def tensor(secret: Path | None) -> Any:
    """A tensor of four numbers: in the model, or in a file outside."""
    values = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    if secret:
        values.ClearField("raw_data")
        values.data_location = onnx.TensorProto.EXTERNAL
        values.external_data.add(key="location", value=str(secret))
        values.external_data.add(key="length", value="16")
    return values


def model_of(graph: Any) -> Any:
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def as_initializer(values: Any) -> Any:
    """x → x + w."""
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy"]
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    return model_of(onnx.helper.make_graph([node], "g", info[:1], info[1:], [values]))


def as_constant(values: Any) -> Any:
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy"]
    nodes = [
        onnx.helper.make_node("Constant", [], ["w"], value=values),
        onnx.helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    return model_of(onnx.helper.make_graph(nodes, "g", info[:1], info[1:]))


def in_a_branch(values: Any) -> Any:
    inner = as_constant(values).graph
    info = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.BOOL, []), inner.output[0]]
    del inner.input[:], inner.node[1:]
    inner.output[0].name = "w"
    node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return model_of(onnx.helper.make_graph([node], "g", info[:1], info[1:]))


def in_a_function(values: Any) -> Any:
    model = as_initializer(tensor(None))
    node = onnx.helper.make_node("Constant", [], ["w"], value=values)
    model.functions.append(onnx.helper.make_function("d", "f", [], ["w"], [node], [onnx.helper.make_opsetid("", 18)]))
    return model


PLACES = [as_initializer, as_constant, in_a_branch, in_a_function]


@pytest.mark.parametrize("place", PLACES)
def test_tensors_in_other_files_are_refused_wherever_they_are(place: Callable[[Any], Any], tmp_path: Path) -> None:
    require_own_tensors(place(tensor(None)).SerializeToString())
    with pytest.raises(ValueError, match="another file"):
        require_own_tensors(place(tensor(tmp_path / "secret")).SerializeToString())


@pytest.mark.parametrize("engine", [name for name in ENGINES if installed(name)])
def test_no_engine_reads_a_file_that_a_model_names(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.arange(4, dtype=np.float32).tofile(tmp_path / "secret")
    run = load(engine, as_initializer(tensor(None)).SerializeToString(), Path("n.onnx"), 1)
    assert run(np.ones(4, np.float32))[0].tolist() == [1, 2, 3, 4]
    for secret in (Path("secret"), tmp_path / "secret"):
        with pytest.raises(FacecadeError, match=r"cannot run n\.onnx: a tensor is in another file") as error:
            load(engine, as_initializer(tensor(secret)).SerializeToString(), Path("n.onnx"), 1)
        assert "export" in error.value.hint


@pytest.mark.parametrize("engine", [name for name in ENGINES if installed(name)])
def test_what_an_engine_cannot_read_or_run_is_one_sentence(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = as_initializer(tensor(None))
    data = model.SerializeToString()
    model.graph.node[0].op_type = "NoSuchOperator"
    broken = {"empty": b"", "cut": data[: len(data) // 2], "text": b"hello" * 9, "operator": model.SerializeToString()}
    broken |= {"xml": b"<net name='x' version='11'></net>", "zeros": bytes(100), "more": data + b"\x07"}
    for name, network in broken.items():
        with pytest.raises(FacecadeError, match=f"cannot run {name}: ") as error:
            load(engine, network, Path(name), 1)(np.ones(4, np.float32))
        assert "Exception from" not in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300
    run = load(engine, data, Path("n.onnx"), 1)
    for batch in (np.ones(5, np.float32), np.ones((2, 3), np.uint8)):
        with pytest.raises(FacecadeError, match=r"cannot run n\.onnx: "):
            run(batch)
    assert "onnxruntime" not in capfd.readouterr().err, "the engine prints nothing itself"


def test_numbers_of_any_length_are_read_as_engines_do() -> None:
    """A longer form of the same number must not hide a field."""
    external = as_initializer(tensor(Path("secret")))
    values = external.graph.initializer[0].SerializeToString()
    plain = external.SerializeToString()
    assert values in plain
    location = values.index(b"\x70\x01")  # field 14: data_location
    for hidden in (b"\xf0\x00\x01", b"\xf0\x80\x80\x80\x10\x01", b"\x70\x81\x00"):
        changed = values[:location] + hidden + values[location + 2 :]
        message = b"\x2a" + bytes([len(changed)]) + changed
        with pytest.raises(ValueError, match="another file"):
            require_own_tensors(b"\x3a" + bytes([len(message)]) + message)
