"""Runs are written to MLflow and to Weights & Biases."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import call, succeed, tracked
from mlflow import MlflowClient

from facecade.report.mlflow_store import MlflowStore
from facecade.report.tracking import TrackedRun, Tracker, open_tracker, with_intervals
from facecade.training.tracking import read_history

HISTORY = [{"epoch": epoch, "loss": 1 / epoch, "val_loss": 2 / epoch, "lr": 0.1} for epoch in range(1, 121)]
RUN = TrackedRun("mask fold 0", {"lr": 0.1, "args": {"T_0": 3}}, {"age mae": 7.5}, {"stage": "mask"}, HISTORY)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in, and what wandb keeps of its own is kept here."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "FACECADE_WANDB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def runs(store: Path) -> dict[str, Any]:
    return {run.info.run_name: run for run in tracked(store)}


def blocks(file: Path) -> Iterator[bytes]:
    """The records in a file of wandb, which is a log as LevelDB writes it."""
    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


class WandbRun:
    """A run that wandb wrote offline."""

    def __init__(self, file: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.name, self.files, self.whole = "", list[str](), False
        self.config, self.summary, self.history = dict[str, Any](), dict[str, Any](), list[dict[str, Any]]()
        for block in blocks(file):
            record = Record()
            record.ParseFromString(block)
            if record.HasField("run") and record.run.display_name:
                self.name = record.run.display_name
                self.config |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
            self.summary |= {
                (each.key or each.nested_key[0]): json.loads(each.value_json) for each in record.summary.update
            }
            self.whole |= record.HasField("exit")
            if record.HasField("history"):
                items = record.history.item
                self.history.append({(each.key or each.nested_key[0]): json.loads(each.value_json) for each in items})
            if record.HasField("request"):
                self.files += [each.path for each in record.request.log_artifact.artifact.manifest.contents]
            self.files += [each.path for each in record.artifact.manifest.contents]


def wandb_runs(folder: Path) -> dict[str, WandbRun]:
    """The runs in a folder, by name; wandb's process may still write the end of the last one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [WandbRun(file) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
        if all(run.whole for run in found):
            return {run.name: run for run in found}
        time.sleep(0.2)
    raise AssertionError(f"a run in {folder} has no end")


def test_a_run_has_its_history(tmp_path: Path) -> None:
    store = tmp_path / "deep/mlflow.db"
    Tracker([MlflowStore(str(store))]).log_run(RUN)
    (run,) = runs(store).values()
    assert run.info.status == "FINISHED" and run.data.tags["stage"] == "mask"
    assert run.data.params == {"lr": "0.1", "args.T_0": "3"} and run.data.metrics["age mae"] == 7.5
    for name in ("loss", "val_loss"):
        curve = MlflowClient(f"sqlite:///{store}").get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in curve] == [(line["epoch"], line[name]) for line in HISTORY]


def test_a_run_in_wandb_has_its_history_too(tmp_path: Path) -> None:
    """And nothing else: no code, output or machine; and no link leads out of the folder."""
    tracker = open_tracker(None, "faces", tmp_path / "a")
    assert tracker
    tracker.log_run(RUN)
    (run,) = wandb_runs(tmp_path / "a").values()
    assert run.name == "mask fold 0" and run.summary["age mae"] == 7.5
    assert {key: run.config[key] for key in ("lr", "args", "stage")} == {"lr": 0.1, "args": {"T_0": 3}, "stage": "mask"}
    assert [(line["epoch"], line["loss"], line["val_loss"]) for line in run.history] == [
        (line["epoch"], line["loss"], line["val_loss"]) for line in HISTORY
    ]
    inside = list((tmp_path / "a").rglob("*"))
    assert all(path.resolve().is_relative_to(tmp_path / "a") for path in inside)
    assert not {path.name for path in inside} & {"requirements.txt", "wandb-metadata.json", "output.log", "diff.patch"}


def test_fits_combiner_and_report_of_a_run(fitted: Path, tmp_path: Path) -> None:
    """Curves, scores with intervals, the recipe, and the report's files, in both."""
    store, output = tmp_path / "mlflow.db", tmp_path / "output"
    folder = shutil.copytree(fitted, tmp_path / "a", ignore=shutil.ignore_patterns(".lock"))
    both = ["--artifacts", folder, "--mlflow", store, "--wandb", "faces"]
    succeed("fit-stage", "mask", "--fold", 1, "--jobs", 1, *both)
    record = json.loads(succeed("fit-meta", *both, "--json"))
    files = json.loads(succeed("report", *both, "--output", output, "--json"))["files"]
    logged, in_wandb = runs(store), wandb_runs(folder) | wandb_runs(output)
    assert set(logged) == set(in_wandb) == {"mask fold 1", "combiner", "report"}
    history = read_history(folder / "stages/mask/fold1")
    assert in_wandb["mask fold 1"].history[-1]["val_accuracy"] == history[-1]["val_accuracy"]
    assert logged["mask fold 1"].data.metrics["val_accuracy"] == history[-1]["val_accuracy"]
    assert in_wandb["mask fold 1"].config["backbone"] == logged["mask fold 1"].data.params["backbone"]
    for end in ("", " low", " high"):
        expected = record["nested_choice"]["macro-F1"][end.strip() or "value"]
        assert logged["combiner"].data.metrics[f"macro-F1{end}"] == pytest.approx(expected)
        assert logged["report"].data.metrics[f"nested macro-F1{end}"] == pytest.approx(expected)
        assert in_wandb["report"].summary[f"nested macro-F1{end}"] == pytest.approx(expected)
    names = {Path(file).name for file in files}
    assert {"report.html", "results.png", "confusion_matrix.png"} < names == set(in_wandb["report"].files)
    client = MlflowClient(f"sqlite:///{store}")
    assert {each.path for each in client.list_artifacts(logged["report"].info.run_id)} == names
    assert in_wandb["report"].config["stages"]["mask"]["epochs"] == 1
    assert logged["report"].data.params["stages.mask.epochs"] == "1"
    succeed("ls", "--artifacts", folder)  # its files of wandb are no reason to refuse the run


def test_an_invalid_store_fails_before_training(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["fit-stage", "all", "--data", drawn / "train", "--artifacts", tmp_path / "a"]
    result = call(*words, "--mlflow", "nowhere://x")
    assert result.exit_code == 1 and "MLflow cannot open nowhere://x" in result.stderr
    monkeypatch.setitem(sys.modules, "wandb", None)
    result = call(*words, "--wandb", "faces")
    assert result.exit_code == 1 and "wandb is not installed" in result.stderr and ".[wandb]" in result.stderr
    assert not (tmp_path / "a").exists()


def test_a_store_that_fails_is_noted_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Full:
        name = "a store"

        def log_run(self, run: TrackedRun) -> None:
            raise OSError("no space left")

    Tracker([Full(), Full()]).log_run(RUN)
    assert capsys.readouterr().err.count("a store rejected mask fold 0: no space left") == 2


def test_nothing_is_sent_unless_the_user_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    from facecade.report.wandb_store import _mode

    settings = wandb.Settings()
    assert settings.mode == "online" and _mode(settings) == "offline"
    host = urlsplit(settings.base_url).hostname
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password secret\n")
    assert _mode(settings) == "online" and _mode(wandb.Settings(mode="offline")) == "offline"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert _mode(settings) == "online" and _mode(wandb.Settings(mode="disabled")) == "disabled"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "online")
    assert _mode(wandb.Settings(mode="online")) == "online", "who says so is asked to log in"


def test_scores_with_intervals_are_single_numbers() -> None:
    scores = {"macro-F1": {"value": 0.5, "low": 0.4, "high": 0.6}}
    assert with_intervals(scores, "eval ") == {
        "eval macro-F1": 0.5,
        "eval macro-F1 low": 0.4,
        "eval macro-F1 high": 0.6,
    }
