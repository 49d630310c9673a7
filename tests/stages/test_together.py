"""torchrun cli.py fit-stage: a lost process ends it with one sentence, and --resume goes on with other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import arrays, call, succeed

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.stages.executors.together import require_together

ROOT = Path(__file__).resolve().parents[2]

RECIPE = """
seed = 1
folds = 3
[face]
detector = "centre"
size = [64, 48]
fallback = 1.0
[augment]
plain = [{ name = "HorizontalFlip", p = 0.5 }]
[defaults]
backbone = "test_efficientnet"
weights = "none"
size = [64, 48]
batch_size = 15
epochs = 2
lr = 0.05
optimizer = "sgd"
dropout = 0.0
augment = "plain"
[stages.joint]
loss = "huber"
old_from = 58
[stages.mask]
frozen_epochs = 1
cutmix = 1.0
[combiner]
anchors = 50
components = 4
"""
"""joint learns years, and cannot move a band's edge, so it fails in every process. SGD: Adam makes a step of a rounding error."""

SCRIPT = """
import os, signal
from facecade.training import loop

epoch_rows = loop.epoch_rows

def lost_in_the_second_epoch(*arguments):
    if arguments[-1] == 1 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return epoch_rows(*arguments)

loop.epoch_rows = lost_in_the_second_epoch
from facecade.cli import main
main()
"""


def fit_words(folder: Path, drawn: Path, name: str) -> list[str]:
    data = ["--data", str(drawn / "train"), "--recipe", str(folder / "recipe.toml")]
    return [*("fit-stage", "all", "--fold", "0", "--device", "cpu"), *data, "--artifacts", str(folder / name)]


def losses(run: Path) -> list[float]:
    lines = (run / "stages/mask/fold0/history.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_lost_process_ends_the_command_and_one_process_goes_on(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += [str(tmp_path / "script.py"), *fit_words(tmp_path, drawn, "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    said = result.stderr.partition("E1")[0] if "\nE1" in result.stderr else result.stderr
    assert result.returncode and not result.stdout
    assert said.count("seed 1;") == 1 and said.count("joint fold 0: failed: stages.joint.old_from") == 1
    assert said.count("Error: ") == 1 and "Error: process 1 of 2 (pid " in said and "no longer answers" in said
    assert "Next: the same command with --resume" in said
    assert not list((tmp_path / "two").rglob(".lease")) and len(losses(tmp_path / "two")) == 1
    for name, options in (("two", ["--resume"]), ("one", [])):
        assert call(*fit_words(tmp_path, drawn, name), "--jobs", 1, *options).exit_code == 1  # joint
    one, two = (arrays(tmp_path / name / "stages/mask/fold0/outputs.npz") for name in ("one", "two"))
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), abs=2e-5)
    for name in ("rows", "anchors"):
        assert (one[name] == two[name]).all()
    for name in ("logits", "embedding", "anchor_embedding"):
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs": 2}, "--jobs is for fits side by side"),
        ({"executor": "ray"}, "--executor ray starts processes of its own"),
        ({"executor_options": ("time=1",)}, "--executor-option is for slurm"),
        ({"compile": True}, "--compile does not work"),
        ({"device": "mps"}, "mps does not work"),
    ],
)
def test_settings_that_several_processes_cannot_have(settings: dict[str, object], message: str) -> None:
    with pytest.raises(FacecadeError, match=message):
        require_together(Machine(**settings))  # type: ignore[arg-type]
    require_together(Machine("cuda:0,1", jobs=1))


def test_other_commands_are_refused_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    first = call("ls", "--artifacts", tmp_path)
    assert first.exit_code == 1 and "torchrun started 2 processes, and only fit-stage can use them" in first.stderr
    monkeypatch.setenv("RANK", "1")
    other = call("ls", "--artifacts", tmp_path)
    assert other.exit_code == 0 and not other.output
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "torchrun" not in call("ls", "--artifacts", tmp_path).output
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    succeed("--version")
