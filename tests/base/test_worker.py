"""A worker process ends with its parent, and never gets Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

PARENT = """
import multiprocessing, os, signal, sys, time
from facecade.base.worker import Worker
from slow import begin, call

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with Worker(context, {}, begin, None, 1) as worker:
        future = worker.submit(call)
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        print(future.result(), flush=True)
"""

SLOW = '''
"""A module that takes long to import in a worker, as torch does."""
import multiprocessing, time

if multiprocessing.parent_process():
    time.sleep(3)


def begin(shared: object, number: int) -> None:
    global begun
    begun = number


def call() -> str:
    return f"begun {begun}"
'''


def started(folder: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A parent, and its worker, which has just been started."""
    (folder / "parent.py").write_text(PARENT)
    (folder / "slow.py").write_text(SLOW)
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, folder / "parent.py"],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{root}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    return process, psutil.Process(int(process.stdout.readline()))


def test_a_worker_that_is_still_importing_ends_with_its_parent(tmp_path: Path) -> None:
    process, worker = started(tmp_path)
    time.sleep(0.7)  # it watches its parent, and imports
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs([worker], timeout=2)
    assert not alive


def test_a_worker_does_not_get_the_interrupt_of_its_group(tmp_path: Path) -> None:
    process, worker = started(tmp_path)
    worker.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "begun 1\n", "")
