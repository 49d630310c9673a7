"""Exports with float16 tensors: half the size, the same classes, and refused where the classes are others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import call, succeed
from onnx import TensorProto, helper, numpy_helper

from facecade.inference import export as writing
from facecade.inference.engines import load
from facecade.inference.exported import Exported
from facecade.inference.half import with_half_tensors

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_matrices_become_float16_and_all_else_stays(engine: str) -> None:
    tensors = {
        "matrix": np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32),
        "large": np.diag(np.linspace(1, 1e6, 40)).astype(np.float32),
        "variance": np.full(40, 1e-9, np.float32),
    }
    nodes = [helper.make_node("MatMul", ["input", "matrix"], ["a"]), helper.make_node("MatMul", ["a", "large"], ["b"])]
    nodes.append(helper.make_node("Add", ["b", "variance"], ["output"]))
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 40])] for name in ("input", "output")]
    graph = helper.make_graph(nodes, "graph", *ends, [numpy_helper.from_array(v, k) for k, v in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    halved = with_half_tensors(model)
    onnx.checker.check_model(halved, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    assert types == {"matrix.float16": TensorProto.FLOAT16, "large": TensorProto.FLOAT, "variance": TensorProto.FLOAT}
    assert {tensor.name for tensor in model.graph.initializer} == set(tensors), "the model itself stays"
    (output,) = load(engine, halved.SerializeToString(), Path("x/y/z.onnx"), 1)(np.eye(40, dtype=np.float32))
    rounded = tensors["matrix"].astype(np.float16).astype(np.float32)
    assert (rounded != tensors["matrix"]).any()
    np.testing.assert_allclose(output, rounded @ tensors["large"] + tensors["variance"], rtol=1e-6)


def test_an_export_is_smaller_and_says_how_many_classes_are_the_same(
    fitted: Path, exported: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MIN_AGREEMENT", 0.9)  # the tiny run has learned next to nothing, from 168 crops
    folder = shutil.copytree(exported, tmp_path / "half")
    text = succeed("export", folder, "--artifacts", fitted, "--half")
    manifest = Exported.open(folder).manifest
    assert manifest.made_of.half and f"{manifest.half_agreement:.2%} of the classes are those of float32" in text
    size, full = (sum(file.stat().st_size for file in each.glob("networks/*.onnx")) for each in (folder, exported))
    assert size < 0.6 * full
    assert not any(str(ROOT).encode() in file.read_bytes() for file in exported.rglob("*.onnx")), (
        "a path of this machine"
    )
    for each in (folder, exported):
        words = ["--artifacts", each, "--engine", "onnx", "--output", tmp_path / each.name]
        summary = json.loads(succeed("infer", drawn / "eval", *words, "--json"))
        assert summary["images"] == 84
    same = [line.split()[0] for line in (tmp_path / "half/submission.csv").read_text().splitlines()]
    other = [line.split()[0] for line in (tmp_path / exported.name / "submission.csv").read_text().splitlines()]
    assert np.mean([a == b for a, b in zip(same, other, strict=True)]) > 0.95
    before = (folder / "manifest.json").stat().st_mtime_ns
    succeed("export", folder, "--artifacts", fitted, "--half")
    assert (folder / "manifest.json").stat().st_mtime_ns == before, "an identical one is there"


def test_an_export_that_would_change_classes_is_refused(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MIN_AGREEMENT", 1.1)
    result = call("export", tmp_path / "half", "--artifacts", fitted, "--half")
    assert result.exit_code == 1 and "168 face crops" in result.stderr and "leave out --half" in result.stderr
    assert not (tmp_path / "half/manifest.json").exists()
    run = shutil.copytree(fitted, tmp_path / "run")
    shutil.rmtree(run / "cache")
    result = call("export", tmp_path / "half", "--artifacts", run, "--half")
    assert result.exit_code == 1 and "the run has none" in result.stderr
