"""Fits in parallel stop when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import TINY

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 5
"""Within which Ctrl-C ends the command: two, and what busy cores need; under one on a free machine."""


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_fits_in_parallel(times: int, drawn: Path, tmp_path: Path) -> None:
    """In the middle of two fits that would train for hours: at once, with no process left."""
    words = ["fit-stage", "joint", "--data", drawn / "train", "--recipe", "demo", "--artifacts", tmp_path, *TINY]
    words += ["--set", "epochs=10000", "--jobs", 2]
    command = [sys.executable, "cli.py", *map(str, words)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 180
    while len(list(tmp_path.glob("stages/joint/fold*/checkpoint-*.safetensors"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no two fits began"
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    started = time.monotonic()
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.3)
    try:
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert time.monotonic() - started < SECONDS
    assert process.returncode == 130 and err.count("the same command with --resume") == 1, err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=SECONDS)
    assert not alive
