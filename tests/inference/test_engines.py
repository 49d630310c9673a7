"""Every engine gives torch's predictions; an export needs no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.faces.labels import N_CLASSES
from facecade.inference import choose, engines
from facecade.inference import export as writing
from facecade.inference import exported as exports
from facecade.inference.ensemble import Ensemble
from facecade.inference.exported import Exported
from facecade.inference.loading import cascade_of_run, export
from facecade.report.metrics import confusion, macro_f1
from facecade.runs.run import open_run

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = "0" * 16
PROBABILITY = [f"p{label}" for label in range(N_CLASSES)]


@pytest.fixture(scope="module")
def by_torch(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    output = tmp_path_factory.mktemp("by_torch")
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", output)
    return pd.read_csv(output / "predictions.csv")


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_engines_agree_with_torch(
    engine: str, exported: Path, by_torch: pd.DataFrame, drawn: Path, tmp_path: Path
) -> None:
    words = ["--artifacts", exported, "--engine", engine, "--precision", "fp32", "--output", tmp_path]
    succeed("infer", drawn / "eval", *words)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table["ImageID"].tolist() == by_torch["ImageID"].tolist()
    assert (table["ans"] == by_torch["ans"]).mean() >= 0.999
    np.testing.assert_allclose(table[PROBABILITY], by_torch[PROBABILITY], atol=1e-4)
    label = pd.read_csv(drawn / "eval/eval_labels.csv")["ans"].to_numpy()
    scores = [macro_f1(confusion(label, each["ans"].to_numpy())) for each in (table, by_torch)]
    assert abs(scores[0] - scores[1]) < 0.001


def test_export_explains_but_has_no_attention_maps(exported: Path, fitted: Path, drawn: Path) -> None:
    image = next((drawn / "eval/images").iterdir())
    (face,), (ours,) = (
        json.loads(succeed("explain", image, "--artifacts", folder, "--json"))["faces"] for folder in (exported, fitted)
    )
    np.testing.assert_allclose(face["probability"], ours["probability"], atol=1e-4)
    assert face["contributions"]["parts"] == pytest.approx(ours["contributions"]["parts"], abs=1e-3)
    result = call("explain", image, "--artifacts", exported, "--attention", exported / "pictures")
    assert result.exit_code == 1 and "--artifacts RUN" in result.stderr and not (exported / "pictures").exists()


def test_export_predicts_without_torch(exported: Path, by_torch: pd.DataFrame, drawn: Path, tmp_path: Path) -> None:
    """In a process that cannot import torch or packages that use it, from the export's folder only."""
    shutil.move(shutil.copytree(exported, tmp_path / "copy"), tmp_path / "elsewhere")
    without = [
        "torch",
        "torchvision",
        "timm",
        "facenet_pytorch",
        "albumentations",
        "onnx",
        "onnxscript",
        "openvino",
        "tensorboard",
        "imagehash",
    ]
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {without}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from facecade import cli
cli.main()
"""
    words = ["infer", drawn / "eval", "--artifacts", tmp_path / "elsewhere", "--output", tmp_path, "--engine", "onnx"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (pd.read_csv(tmp_path / "submission.csv")["ans"] == by_torch["ans"]).mean() >= 0.999
    needed = (tmp_path / "elsewhere/requirements.txt").read_text()
    assert "onnxruntime==" in needed and "torch" not in needed


def copy_into_run(exported: Path, run: Path) -> Path:
    """Copies an export of the same fits to where `infer` looks for the run's export."""
    return shutil.copytree(exported, run / "export" / "mean")


def test_auto_measures_once_and_records_the_choice(
    fitted: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = shutil.copytree(fitted, tmp_path / "run")
    run, machine = open_run(artifacts), Machine()
    rates = {"torch fp32": 10.0, "openvino fp32": 30.0, "onnx fp32": 20.0}
    timed: list[Ensemble] = []

    def rate(ensemble: Ensemble, face: tuple[int, int]) -> float:
        timed.append(ensemble)
        return list(rates.values())[len(timed) - 1]

    monkeypatch.setattr(choose, "_rate", rate)
    assert cascade_of_run(run, machine, images=1).made_of["engine"] == ["torch", "cpu"]
    assert not timed, "for one image nothing is measured"
    copy_into_run(exported, artifacts)
    assert cascade_of_run(run, machine).made_of["engine"] == ["openvino", "fp32"]
    assert len(timed) == 3 and all(len(each.members) == len(run.recipe.stages) for each in timed)
    assert cascade_of_run(run, machine, images=1).made_of["engine"] == ["openvino", "fp32"]
    assert len(timed) == 3
    assert json.loads((artifacts / "engine-fp32.json").read_text())["images_per_second"] == rates


@pytest.mark.parametrize(
    ("share", "best", "rate"),
    [(0.125, ("openvino", "bf16"), 1 / (1 / 45 + 0.125 / 30)), (0.5, ("openvino", "fp32"), 25.7)],
)
def test_bf16_is_chosen_where_it_gains_more_than_the_fallback_costs(
    share: float, best: tuple[str, str], rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([10.0, 30.0, 45.0])
    monkeypatch.setattr(choose, "_rate", lambda *_: next(rates))
    options = [choose.EngineOption("torch", "fp32", no_ensemble), choose.EngineOption("openvino", "fp32", no_ensemble)]
    options.append(choose.EngineOption("openvino", "bf16", no_ensemble, share))
    record = tmp_path / "engine.json"
    assert choose.choose_engine(record, NETWORKS, options, (64, 48)) == best == choose.recorded_choice(record, NETWORKS)
    recorded = json.loads(record.read_text())["images_per_second"]
    assert recorded["openvino bf16"] == round(rate, 1) and recorded["openvino fp32"] == 30
    monkeypatch.setattr(choose, "has_bf16", lambda: not engines.has_bf16())
    assert choose.recorded_choice(record, NETWORKS) is None, "another processor is measured again"


def no_ensemble() -> Ensemble:
    return Ensemble([], {}, batch=1, streams=1)


def test_bf16_with_fallback_from_measurement_to_prediction(
    fitted: Path, by_torch: pd.DataFrame, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end, on any processor: one without bf16 rounds nothing, but still runs the fallback."""
    for module in (choose, writing, exports):
        monkeypatch.setattr(module, "has_bf16", lambda: True)
    artifacts = shutil.copytree(fitted, tmp_path / "run")
    manifest = export(open_run(artifacts)).folder / "manifest.json"
    record = json.loads(manifest.read_text())
    assert (
        record["fallback_margin"] >= 0
        and (record["fallback_margin"] > 0) == engines.has_bf16()
        and 0 <= record["fallback_share"] < 1
    )
    manifest.write_text(json.dumps({**record, "fallback_margin": 0.5, "fallback_share": 0.25}))
    timed: list[Ensemble] = []

    def rate(ensemble: Ensemble, face: tuple[int, int]) -> float:
        timed.append(ensemble)
        return [10.0, 30.0, 60.0, 20.0][len(timed) - 1]

    monkeypatch.setattr(choose, "_rate", rate)
    words = ["--artifacts", artifacts, "--engine", "auto", "--output", tmp_path, "--json"]
    assert json.loads(succeed("infer", drawn / "eval", *words))["engine"] == "openvino bf16"
    rates = json.loads((artifacts / "engine-auto.json").read_text())["images_per_second"]
    assert rates == {"torch fp32": 10, "openvino fp32": 30, "openvino bf16": 40, "onnx fp32": 20}
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert (table["ans"] == by_torch["ans"]).mean() >= 0.999
    manifest.write_text(
        json.dumps({**record, "fallback_margin": None, "fallback_share": 0.0})
    )  # as if exported again without crops
    assert json.loads(succeed("infer", drawn / "eval", *words))["engine"] == "openvino fp32"


def test_changed_run_is_exported_again(
    fitted: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = shutil.copytree(fitted, tmp_path / "run")
    written = (copy_into_run(exported, artifacts) / "manifest.json").stat().st_mtime_ns
    first = export(open_run(artifacts))
    assert (export(open_run(artifacts)).folder / "manifest.json").stat().st_mtime_ns == written
    monkeypatch.chdir(tmp_path)
    assert (export(open_run(Path("run"))).folder / "manifest.json").stat().st_mtime_ns == written
    monkeypatch.undo()
    succeed("fit-meta", "--artifacts", artifacts)
    meta = artifacts / "combiner/meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "prior": [1 / N_CLASSES] * N_CLASSES}))
    second = export(open_run(artifacts))
    assert second.made_of.combiner != first.made_of.combiner
    assert json.loads((second.combiner / "meta.json").read_text())["prior"][0] == 1 / N_CLASSES


def test_each_exported_network_has_its_own_folds_weights(exported: Path, fitted: Path) -> None:
    """The folds' weights replace each other in one graph; none may be left over."""
    run = open_run(fitted)
    written = Exported.open(exported).ensemble("onnx", 1)
    torch = cascade_of_run(run, Machine(engine="torch")).ensemble
    crops = np.random.default_rng(3).integers(0, 256, (3, *run.recipe.face.size, 3), np.uint8)
    (by_onnx,), (by_torch,) = list(written.predict_chunks([crops])), list(torch.predict_chunks([crops]))
    assert by_onnx.keys() == by_torch.keys() == set(range(run.recipe.folds))
    for fold, stage_outputs in by_onnx.items():
        for stage, logits in stage_outputs.logits.items():
            np.testing.assert_allclose(logits, by_torch[fold].logits[stage], atol=1e-3)
            np.testing.assert_allclose(stage_outputs.embedding[stage], by_torch[fold].embedding[stage], atol=1e-3)
    assert np.abs(by_onnx[0].logits["mask"] - by_onnx[1].logits["mask"]).max() > 0.01


@pytest.mark.parametrize("sizes", [[4, 4, 1], [3], [0, 2]])
def test_chunks_of_any_size_keep_their_order(exported: Path, sizes: list[int]) -> None:
    ensemble = Exported.open(exported).ensemble("onnx", 2)
    crops = np.random.default_rng(0).integers(0, 256, (sum(sizes), 144, 112, 3), np.uint8)
    one_by_one = [next(ensemble.predict_chunks([crop[None]]))[0].logits["mask"] for crop in crops]
    outputs = list(ensemble.predict_chunks(iter(np.split(crops, np.cumsum(sizes)[:-1]))))
    assert [len(each[0]) for each in outputs] == sizes
    np.testing.assert_allclose(
        np.concatenate([each[0].logits["mask"] for each in outputs]), np.concatenate(one_by_one), atol=1e-5
    )


@pytest.mark.skipif(not engines.has_bf16(), reason="OpenVINO has no bf16 on this processor")
def test_bf16_predicts_as_torch_does(exported: Path, by_torch: pd.DataFrame, drawn: Path, tmp_path: Path) -> None:
    succeed("infer", drawn / "eval", "--artifacts", exported, "--precision", "bf16", "--output", tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert (table["ans"] == by_torch["ans"]).mean() >= 0.999
    difference = (table[PROBABILITY] - by_torch[PROBABILITY]).abs().to_numpy().max()
    assert 1e-4 < difference < 0.1
    written = Exported.open(exported)
    assert written.precision("openvino", "auto") == "bf16"
    assert written.precision("onnx", "auto") == "fp32" and written.precision("openvino", "fp32") == "fp32"


def test_first_fold_of_an_export_is_its_lowest_number(exported: Path, tmp_path: Path) -> None:
    """Of an ensemble with one network fitted on everybody, it is the number after the folds."""
    folder = shutil.copytree(exported, tmp_path / "export")
    manifest = json.loads((folder / "manifest.json").read_text())
    for networks in manifest["networks"]:
        networks |= {"files": networks["files"][:1], "off": networks["off"][:1], "folds": [[3]]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    members = Exported.open(folder).ensemble("onnx", 1, folds=1).members
    assert [member.folds for member in members] == [(3,)] * len(manifest["networks"])


def test_signals_work_after_another_thread_released_a_network(exported: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from threading import Thread
import numpy as np
from facecade.inference.exported import Exported
networks = [Exported.open(Path({str(exported)!r})).ensemble("openvino", 2)]
def release():
    networks[0].predict_all(np.zeros((8, 64, 48, 3), np.uint8))
    networks.clear()
thread = Thread(target=release)
thread.start()
thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("received"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "received\n"), done.stderr


def test_without_a_fallback_margin_there_is_no_bf16(exported: Path, drawn: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "export")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["fallback_margin"] is not None) == engines.has_bf16() and 0 <= manifest["fallback_share"] < 1
    (folder / "manifest.json").write_text(json.dumps({**manifest, "fallback_margin": None}))
    assert Exported.open(folder).precision("openvino", "auto") == "fp32"
    result = call("infer", drawn / "eval", "--artifacts", folder, "--precision", "bf16", "--output", tmp_path)
    assert result.exit_code == 1 and "--precision fp32" in result.stderr


def test_export_overwrites_only_an_export(
    exported: Path, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "mine/networks/mine.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    for folder in (fitted, tmp_path / "mine"):
        before = sorted(path for path in folder.rglob("*"))
        result = call("export", folder, "--artifacts", fitted)
        assert result.exit_code == 1 and "holds files that are not an export's" in result.stderr
        assert sorted(path for path in folder.rglob("*")) == before
    old = shutil.copytree(exported, tmp_path / "cut")
    (old / "manifest.json").write_text(json.dumps({"format": 0}))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_compare", stopped)
        assert call("export", old, "--artifacts", fitted).exit_code != 0
    assert not (old / "manifest.json").exists()
    succeed("export", old, "--artifacts", fitted)
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in (old, exported)]
    assert files[0] == files[1]


def test_unavailable_engines_precisions_and_formats_are_named(
    exported: Path, fitted: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = call("infer", exported, "--artifacts", exported, "--engine", "torch")
    assert result.exit_code == 1 and "an export holds no torch models" in result.stderr
    result = call("infer", exported, "--artifacts", exported, "--engine", "onnx", "--precision", "bf16")
    assert result.exit_code == 1 and "fp32 only" in result.stderr
    result = call("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--precision", "bf16")
    assert result.exit_code == 1 and "--engine openvino --precision bf16" in result.stderr
    monkeypatch.setitem(engines.ENGINES, "openvino", "no_such_package")
    with pytest.raises(FacecadeError, match="is not installed"):
        cascade_of_run(open_run(fitted), replace(Machine(), engine="openvino"))
    assert not (fitted / "export").exists(), "nothing is written for an engine that is not installed"
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"format": 99}))
    result = call("infer", exported, "--artifacts", tmp_path)
    assert result.exit_code == 1 and "format 99" in result.stderr
