"""Run a benchmark's commands as a user types them, and record their time, peak memory, commit and machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_json, write_text  # noqa: E402


def run_step(name: str, arguments: list[str], log: Path) -> dict[str, Any]:
    """Run a command of cli.py; its wall time and peak memory, including those of interrupted calls.

    Raises:
        click.ClickException: the command failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = log.with_name(f"{name}.cut.json")  # time and memory so far, for a call after an interruption
    before, peak = json.loads(progress.read_text()) if progress.exists() else (0.0, 0)
    started = time.monotonic() - before
    with open(log, "ab") as file:
        process = psutil.Popen([sys.executable, "cli.py", *arguments], cwd=ROOT, stdout=file, stderr=file)
        while process.poll() is None:
            peak = max(peak, _memory(process))
            write_text(progress, json.dumps([time.monotonic() - started, peak]))
            # Reading the memory of processes slows them down, so a long step is sampled less often than a short one.
            time.sleep(min(5.0, 0.2 + (time.monotonic() - started) / 20))
    if process.returncode:
        raise click.ClickException(f"{name} failed; see {log}")
    progress.unlink(missing_ok=True)
    return {
        "step": name,
        "command": "python cli.py " + " ".join(arguments),
        "seconds": round(time.monotonic() - started, 1),
        "peak_mib": round(peak / 2**20),
        "commit": commit(),
        "machine": machine(),
    }


class Steps:
    """Commands of `cli.py`, each run once: the record of a finished one is in a folder's steps.json."""

    def __init__(self, folder: Path) -> None:
        self.kept, self.log = folder / "steps.json", folder / "steps.log"
        self.done: dict[str, dict[str, Any]] = json.loads(self.kept.read_text()) if self.kept.exists() else {}

    def __call__(self, name: str, *words: object) -> None:
        """Run a command, if no step of this name is done."""
        if name not in self.done:
            self.done[name] = run_step(name, [str(word) for word in words], self.log)
            self.save()

    def save(self) -> None:
        """Write steps.json; after an entry of `done` was changed."""
        write_json(self.kept, self.done)


def _memory(process: psutil.Process) -> int:
    """Bytes of memory of a process and its children; shared memory counts once (PSS)."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            total += each.memory_full_info().pss
    return total


WRITTEN = (":!README.md", ":!benchmarks/*.md", ":!benchmarks/*.json", ":!benchmarks/*.jsonl")
"""What benchmarks write: a page that was just written does not change what the next one measures."""


def commit() -> str:
    """The current commit, marked `-dirty` where the tree differs from it in more than what benchmarks write."""
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ".", *WRITTEN], cwd=ROOT, capture_output=True)
    return (name.stdout.strip() or "unknown") + ("-dirty" if changed.returncode == 1 else "")


def machine() -> str:
    """The processor, cores, memory and Python version."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Python {platform.python_version()}"


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: written by benchmarks/{name}.py -->", f"<!-- end of {name} -->"


def marked(name: str, text: str) -> str:
    """A text between marks, where `into` replaces it."""
    opening, closing = _marks(name)
    return f"{opening}\n{text}\n{closing}"


def into(page: Path, name: str, text: str) -> None:
    """Replace the text between a page's marks of this name."""
    before, _, after = _parts(page, name)
    page.write_text(f"{before}{marked(name, text)}{after}")


def kept(page: Path, name: str) -> str:
    """The text between a page's marks of this name, marked again: for a page that is written anew around it."""
    return marked(name, _parts(page, name)[1].strip("\n"))


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    """The text before, between and after a page's marks of this name."""
    opening, closing = _marks(name)
    before, rest = page.read_text().split(opening)
    between, after = rest.split(closing)
    return before, between, after
