"""The search for settings: resuming, results and errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, call, succeed, tracked

from facecade.comparison.tune import read_space
from facecade.recipe_file import parse, read_toml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture()
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text('lr = { low = 1e-3, high = 1e-2, log = true }\noptimizer = { choices = ["adam", "adamw"] }\n')
    return path


def test_killed_study_resumes_and_writes_its_best_as_a_recipe(space: Path, drawn: Path, tmp_path: Path) -> None:
    settings = [word for word in TINY if word not in ("--jobs", "1")]
    words = ["tune", "mask", "--data", drawn / "train", "--recipe", "recipes/demo.toml", "--space", space]
    words += ["--fold", 0, "--fold", 1, "--artifacts", tmp_path / "a", *settings, "--trials"]
    command = [sys.executable, "cli.py", *map(str, words), "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not list((tmp_path / "a").rglob("meta.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a/mask/tuning.json").exists()
    result = json.loads(succeed(*words, 2, "--json"))
    finished = [trial for trial in result["trials"] if trial["state"] in ("complete", "pruned")]
    assert len(finished) == 2 and result["trials"][0]["state"] == "running", "the killed trial stays running"
    assert finished[0]["settings"] != result["trials"][0]["settings"], "a resumed study draws other settings"
    best = parse(read_toml(tmp_path / "a/mask/best.toml")).stages["mask"]
    assert best.lr == pytest.approx(result["best"]["settings"]["lr"])
    assert best.optimizer == result["best"]["settings"]["optimizer"]
    assert result["best"]["score"] == max(trial["score"] for trial in finished if trial["state"] == "complete")
    assert set(result["importance"]) <= {"lr", "optimizer"}
    again = succeed(*words, 3, "--mlflow", tmp_path / "mlflow.db")
    assert 1 <= len(tracked(tmp_path / "mlflow.db")) <= 2, (
        "a fit for each fold of the third trial, unless it was pruned"
    )
    assert "Best: trial" in again and "slightly too high" in again


def test_start_stage_is_fitted_once(space: Path, drawn: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        """folds = 3
[face]
detector = "centre"
size = [32, 32]
[defaults]
backbone = "test_efficientnet"
size = [32, 32]
epochs = 1
per_person = 1
[stages.joint]
loss = "dldl"
[stages.gender]
weights = "stage:joint"
"""
    )
    where = ["--data", drawn / "train", "--recipe", recipe, "--space", space, "--artifacts", tmp_path / "a"]
    result = call("tune", "gender", *where, "--fold", 0, "--trials", 2)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("joint fold 0: ") - result.stderr.count("joint fold 0: fitted already") == 1
    assert result.stderr.count("gender fold 0: accuracy") == 2


def test_missing_data_are_an_error_before_a_trial(space: Path, tmp_path: Path) -> None:
    result = call("tune", "mask", "--data", tmp_path, "--space", space, "--artifacts", tmp_path / "a")
    assert result.exit_code == 1 and "has no images" in result.stderr and "trial" not in result.stderr
    assert not list(tmp_path.rglob("study.log"))


def test_invalid_spaces_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    for text, message in (
        ("lrr = { low = 1, high = 2 }", "did you mean lr"),
        ("lr = 3", "{ low"),
        ("lr = { low = 1 }", "{ low"),
        ("lr = { low = 2, high = 1 }", "lr has low = 2 and high = 1"),
        ("lr = { low = 0.0, high = 1, log = true }", "low above 0"),
        ("", "holds no keys"),
        ("lr = { low = true, high = 2 }", "lr has low = True"),
        ("lr = { low = 1, high = 2, stepp = 1 }", "lr has 'stepp' in its range"),
        ("lr = { low = 1, high = 1e9 }", "lr: input should be less than or equal to 1000"),
        ("lr = { low = 1, high = inf }", "inf is not a finite number"),
        ("lr = { choices = [] }", "the choices of lr are no list"),
        ('vote = { choices = ["soft", "loud"] }', "vote: input should be 'soft' or 'hard', not 'loud'"),
        ("lr = " + "[" * 5000 + "]" * 5000, "deep"),
    ):
        path.write_text(text)
        result = call("tune", "mask", "--data", tmp_path, "--space", path)
        assert result.exit_code == 1 and message in result.stderr
    assert set(read_space(ROOT / "recipes/spaces/default.toml")) >= {"lr", "dropout"}
    assert "did you mean mask" in call("tune", "maks", "--data", tmp_path, "--set", "epochs=2").stderr
    assert "did you mean age mae" in call("tune", "joint", "--data", tmp_path, "--measure", "age mea").stderr
    assert "there is no fold 9" in call("tune", "joint", "--data", tmp_path, "--fold", 9).stderr


def test_trials_of_other_settings_are_another_study(space: Path, drawn: Path, tmp_path: Path) -> None:
    settings = [word for word in TINY if word not in ("--jobs", "1")]
    words = ["tune", "mask", "--data", drawn / "train", "--recipe", "recipes/demo.toml", "--space", space, "--fold", 0]
    words += ["--artifacts", tmp_path / "a", "--trials", 1, "--json", *settings]
    first = json.loads(succeed(*words))
    other = json.loads(succeed(*words, "--set", "stages.mask.batch_size=4"))
    assert [len(each["trials"]) for each in (first, other)] == [1, 1]
    assert len(json.loads(succeed(*words))["trials"]) == 1
