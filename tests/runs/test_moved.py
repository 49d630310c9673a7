"""A run whose images were moved to another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import call, succeed


@pytest.fixture
def moved(fitted: Path, tmp_path: Path) -> Path:
    """The run, as it is on a machine where its images lie elsewhere."""
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "data": str(tmp_path / "gone/train")}))
    return run


@pytest.mark.parametrize("command", ["report", "audit"])
def test_commands_that_show_images_name_the_folder_and_take_another(
    command: str, moved: Path, drawn: Path, tmp_path: Path
) -> None:
    words = [command, "--artifacts", moved, "--output", tmp_path / "out"]
    refused = call(*words)
    assert refused.exit_code == 1 and "gone/train does not exist" in refused.stderr and "--data" in refused.stderr
    assert "changed" not in refused.stderr, "no list of every image"
    succeed(*words, "--data", drawn / "train")
    assert (tmp_path / f"out/{command}.html").exists()


def test_every_fit_is_kept_when_the_run_continues_with_the_new_folder(moved: Path, drawn: Path, tmp_path: Path) -> None:
    shutil.rmtree(next((moved / "stages/gender").glob("fold1")))
    refused = call("fit-stage", "gender", "--resume", "--artifacts", moved)
    assert refused.exit_code == 1 and "gone/train does not exist" in refused.stderr
    planned = succeed("fit-stage", "all", "--resume", "--data", drawn / "train", "--artifacts", moved, "--dry-run")
    assert planned.splitlines() == ["would fit gender fold 1 (now missing)"]


def test_stored_crops_need_no_images(moved: Path, fitted: Path) -> None:
    """As a job on a machine where the images are not."""
    weights = next((moved / "stages/gender").glob("fold1")) / "weights.safetensors"
    shutil.rmtree(weights.parent)
    succeed("fit-stage", "gender", "--fold", 1, "--resume", "--stored-crops", "--artifacts", moved)
    assert weights.read_bytes() == (fitted / weights.relative_to(moved)).read_bytes()
    shutil.rmtree(next((moved / "cache").glob("crops-*")))
    refused = call("fit-stage", "gender", "--fold", 1, "--stored-crops", "--artifacts", moved)
    assert refused.exit_code == 1 and "gone/train does not exist" in refused.stderr
