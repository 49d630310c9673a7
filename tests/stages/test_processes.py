"""Processes that are killed, and that have a GPU each. What they run is small, so that nothing large is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.stages.executors import processes
from facecade.stages.executors.processes import ProcessExecutor, visible_gpu

SMALL = '''
import os, signal, time
from dataclasses import dataclass


@dataclass(frozen=True)
class Small:
    """title: what it does, and its number."""
    title: str


def begin(messages, folder, machine):
    global place, device
    place, device = folder, machine.device


def run(fit):
    attempts = len(list(place.glob(f"{fit.title}-*")))
    (place / f"{fit.title}-{attempts}").touch()
    does = fit.title.split()[0]
    if does == "killed" or (does == "once" and attempts == 0):
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3.0 if does == "slow" else 0.0)
    return f"{device} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
'''


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the processes run."""
    import importlib

    (tmp_path / "small_fits.py").write_text(SMALL)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("small_fits")
    importlib.reload(module)
    monkeypatch.setattr(processes, "_init_worker", module.begin)
    monkeypatch.setattr(processes, "_run_fit", module.run)
    return module


@dataclass
class Ended:
    outcomes: dict[str, Any]
    slots: int


def run(small: ModuleType, folder: Path, titles: list[str], jobs: int, gpus: tuple[int, ...] = ()) -> Ended:
    outcomes: dict[str, Any] = {}
    device = "cuda:0,1" if gpus else "cpu"
    with ProcessExecutor(Machine(device), folder, jobs, gpus) as executor:  # type: ignore[arg-type]
        for title in titles:
            executor.submit(small.Small(title))
        while len(outcomes) < len(titles):
            for fit, outcome in executor.wait():
                outcomes[fit.title] = outcome
        return Ended(outcomes, executor.slots)


def test_one_fit_less_runs_at_a_time_after_a_process_was_killed(
    small: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ended = run(small, tmp_path, ["once 1", "slow 2", "quick 3"], jobs=2)
    assert ended == Ended(dict.fromkeys(["once 1", "slow 2", "quick 3"], "cpu None"), slots=1)
    err = capsys.readouterr().err
    assert err == "once 1: its process was killed, perhaps for want of memory; again, with --jobs 1\n"


def test_a_fit_fails_if_its_process_is_killed_while_no_other_runs(small: ModuleType, tmp_path: Path) -> None:
    ended = run(small, tmp_path, ["killed 1", "slow 2", "quick 3"], jobs=2)
    failed = ended.outcomes.pop("killed 1")
    assert isinstance(failed, FacecadeError) and "its process was killed" in str(failed)
    assert ended == Ended(dict.fromkeys(["slow 2", "quick 3"], "cpu None"), slots=1)
    assert len(list(tmp_path.glob("killed 1-*"))) == 2


def test_each_process_sees_one_gpu(small: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it imports anything, so torch knows of no other; numbers are those that this process sees."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ended = run(small, tmp_path, ["slow 1", "slow 2"], jobs=2, gpus=(0, 3))
    assert sorted(ended.outcomes.values()) == ["cuda 0", "cuda 3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-8a,7")
    assert [visible_gpu(index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["5", "GPU-8a", "7"]
