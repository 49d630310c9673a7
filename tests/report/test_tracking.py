"""Runs are written to MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, call, succeed, tracked
from mlflow import MlflowClient

from facecade.report.tracking import Tracker


def runs(store: Path) -> dict[str, Any]:
    return {run.info.run_name: run for run in tracked(store)}


def test_a_run_has_its_history(tmp_path: Path) -> None:
    store = tmp_path / "deep/mlflow.db"
    history = [{"epoch": epoch, "loss": 1 / epoch, "lr": 0.1} for epoch in range(1, 121)]
    Tracker(str(store)).log_run(
        "mask fold 0", {"lr": 0.1, "args": {"T_0": 3}}, {"age mae": 7.5}, {"stage": "mask"}, history
    )
    (run,) = runs(store).values()
    assert run.info.status == "FINISHED" and run.data.tags["stage"] == "mask"
    assert run.data.params == {"lr": "0.1", "args.T_0": "3"} and run.data.metrics["age mae"] == 7.5
    curve = MlflowClient(f"sqlite:///{store}").get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(line["epoch"], line["loss"]) for line in history]


def test_fits_and_combiner_of_a_run(drawn: Path, tmp_path: Path) -> None:
    store, folder = tmp_path / "mlflow.db", ["--artifacts", tmp_path / "a"]
    options = ["--data", drawn / "train", "--recipe", "recipes/demo.toml"]
    succeed("fit-stage", "all", *options, *folder, *TINY, "--mlflow", store)
    record = json.loads(succeed("fit-meta", *folder, "--mlflow", store, "--json"))
    logged = runs(store)
    assert {f"{stage} fold {fold}" for stage in ("mask", "gender") for fold in range(3)} < set(logged)
    assert logged["combiner"].data.metrics["macro-F1"] == pytest.approx(record["nested_choice"]["macro-F1"]["value"])


def test_an_invalid_store_fails_before_training(drawn: Path, tmp_path: Path) -> None:
    result = call(
        "fit-stage", "all", "--data", drawn / "train", "--artifacts", tmp_path / "a", "--mlflow", "nowhere://x"
    )
    assert result.exit_code == 1 and "MLflow cannot open nowhere://x" in result.stderr
    assert not (tmp_path / "a").exists()
