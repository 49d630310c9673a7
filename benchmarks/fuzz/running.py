"""Runs commands of the program as a user does, with a limit on time, and measures memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

INTERRUPT_SECONDS = 2.5
"""Within which Ctrl-C ends a command: two seconds, and what two busy cores need to notice."""

TINY = [
    *("--set", "folds=3", "--set", "epochs=1", "--set", "combiner.rounds=3"),
    *("--set", "combiner.anchors=60", "--set", "combiner.components=4"),
]
"""Settings under which `recipes/demo.toml` fits in seconds."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended. code: negative for a signal, as of subprocess. peak_mib: memory of its main process."""

    code: int
    output: str
    seconds: float
    peak_mib: float


def start(words: Sequence[object], log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command of cli.py, as `start_program` does."""
    return start_program([sys.executable, ROOT / "cli.py", *words], log, environment)


def start_program(
    command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own; what it prints goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )


def run(*words: object, seconds: float = 1800, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run a command to its end, or for so many seconds."""
    began, peak = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        process = start(words, Path(folder, "log"), environment)
        while process.poll() is None:
            if time.monotonic() - began > seconds:
                kill(process)
                return Outcome(-signal.SIGALRM, "hangs", seconds, peak)
            peak = max(peak, _peak_mib(process.pid))
            time.sleep(0.02)
        text = Path(folder, "log").read_text(errors="replace")
    return Outcome(process.returncode, text, time.monotonic() - began, peak)


def _peak_mib(process: int) -> float:
    """Peak memory of a running process so far; 0 at its end. What the system reports after the end includes its parent's, from
    before the process got a program of its own."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def kill(process: subprocess.Popen[bytes]) -> str:
    """Kill a command and its children at once; nothing can be wrong."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return ""


def interrupt(process: subprocess.Popen[bytes]) -> str:
    """Interrupt a command as a terminal does on Ctrl-C: the signal goes to its children, too.

    Returns:
        What is wrong: that it took too long, or left processes; or nothing.
    """
    began = time.monotonic()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(timeout=INTERRUPT_SECONDS)
    except subprocess.TimeoutExpired:
        threads = _threads(process.pid)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            kill(process)
        seconds = time.monotonic() - began
        return f"ended {seconds:.1f} s after Ctrl-C with exit {process.returncode}; its threads were: {threads}"
    if process.returncode not in (0, 130, -signal.SIGINT):  # the last where all was done
        return f"exit {process.returncode} after Ctrl-C"
    deadline = time.monotonic() + 5  # the system takes a moment to forget children
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        kill(process)
        return "left processes after Ctrl-C"
    return ""


def _threads(process: int) -> str:
    """What the system says of a process's threads, each once: its state (R runs, S sleeps, D waits for the disk), and what it waits
    for."""
    found = set()
    for folder in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError, IndexError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            found.add(f"{state} {(folder / 'wchan').read_text()}")
    return ", ".join(sorted(found)) or "gone"


def small_run(folder: Path, *settings: str) -> Path:
    """Drawn faces in folder/data, and a small fitted run on them in folder/run, which is returned; fitted once."""
    run_folder = folder / "run"
    if not (run_folder / "combiner/meta.json").exists():
        _succeed("draw", folder / "data", "--people", 24)
        sets = [word for setting in settings for word in ("--set", setting)]
        arguments = ["--recipe", ROOT / "recipes/demo.toml", "--artifacts", run_folder, *TINY, *sets]
        _succeed("fit-stage", "all", "--data", folder / "data/train", *arguments)
        _succeed("fit-meta", "--artifacts", run_folder)
    return run_folder


def _succeed(*words: object) -> None:
    outcome = run(*words)
    if outcome.code:
        raise RuntimeError(f"{words} failed: {outcome.output}")
