"""Commands that are killed or interrupted, run twice at once, or meet a full disk: what they leave resumes to the same bytes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecade.base.files import content_hash

from .running import ROOT, TINY, run, start
from .tally import Tally

LARGE = 2**30
"""Bytes of a disk that is large enough."""

MAX_ATTEMPTS = 50
"""Stops of one run before it may end."""

PYTHON_SECONDS = 0.05
"""In which Python itself starts: Ctrl-C then ends in a traceback of Python's own, which no program can prevent."""


@dataclass(frozen=True)
class Job:
    """A command that works in a folder.

    prepare: fills the folder before the first call. words: arguments of the command. resume: arguments that continue it. results:
    patterns of the files that must be the same bytes, however often it was killed.
    """

    name: str
    prepare: Callable[[Path], None]
    words: Callable[[Path], Sequence[object]]
    resume: Sequence[object]
    results: Sequence[str]

    def hashes(self, folder: Path) -> dict[str, str]:
        files = sorted(path for pattern in self.results for path in folder.glob(pattern))
        return {path.relative_to(folder).as_posix(): content_hash(path) for path in files}


def jobs(source: Path) -> dict[str, Job]:
    """`fit-stage`, `fit-meta` and `infer` on the drawn faces and the run of `running.small_run` in a folder."""
    data, fitted = source / "data", source / "run"
    fit = ["fit-stage", "joint", "gender", "--data", data / "train", "--recipe", ROOT / "recipes/demo.toml", *TINY]

    def copy_run(folder: Path) -> None:
        shutil.copytree(fitted, folder / "run")

    def copy_stages(folder: Path) -> None:
        copy_run(folder)
        shutil.rmtree(folder / "run/combiner")

    infer = ["infer", data / "eval", "--engine", "torch"]
    listed = [
        Job(
            "fit-stage",
            lambda folder: None,
            lambda folder: [*fit, "--jobs", "2", "--artifacts", folder / "run"],
            ["--resume"],
            ["run/stages/**/weights.safetensors", "run/stages/**/outputs.npz", "run/table.csv"],
        ),
        Job(
            "fit-meta",
            copy_stages,
            lambda folder: ["fit-meta", "--artifacts", folder / "run"],
            [],
            ["run/combiner/**/*.npz", "run/combiner/**/model.json"],
        ),
        Job(
            "infer",
            copy_run,
            lambda folder: [*infer, "--artifacts", folder / "run", "--output", folder / "output"],
            [],
            ["output/submission.csv", "output/predictions.csv"],
        ),
    ]
    return {job.name: job for job in listed}


def stop_at_random(
    job: Job, stop: Callable[[subprocess.Popen[bytes]], str], work: Path, stops: int, seed: int
) -> Tally:
    """Kill or interrupt a command `stops` times at random moments, resume it each time, and compare what it makes with an unbroken
    run.

    Args:
        stop: `running.kill` or `running.interrupt`.
    """
    # A shell starts what `&` puts into the background with Ctrl-C ignored, and commands would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tally, generator = Tally(tried=stops), np.random.default_rng([13, seed])
    expected, seconds = _unbroken(job, work / "unbroken")
    folder = _fresh(job, work / "stopped")
    stopped = attempts = 0
    while stopped < stops or attempts:
        more = job.resume if attempts else []
        if stopped < stops and attempts < MAX_ATTEMPTS:
            process = start([*job.words(folder), *more], work / "log")
            time.sleep(generator.uniform(PYTHON_SECONDS, seconds))
            if process.poll() is None:
                wrong = stop(process)
                tally.wrong += [f"{job.name} stopped: {wrong}"] if wrong else []
                tally.check_text(f"{job.name} stopped", (work / "log").read_text(errors="replace"))
                stopped, attempts = stopped + 1, attempts + 1
                continue
        outcome = run(*job.words(folder), *more)
        _compare(tally, f"{job.name} after {attempts} stops", job, folder, expected, outcome.code, outcome.output)
        folder, attempts = _fresh(job, work / "stopped"), 0
    return tally


def run_twice(job: Job, work: Path, pairs: int) -> Tally:
    """Start a command twice in one folder: each ends right or is refused in words, and what they leave is right."""
    tally = Tally(tried=pairs)
    expected, _ = _unbroken(job, work / "unbroken")
    for pair in range(pairs):
        folder = _fresh(job, work / "pair")
        both = [start(job.words(folder), work / f"log{which}") for which in range(2)]
        codes = [process.wait(timeout=600) for process in both]
        texts = [(work / f"log{which}").read_text(errors="replace") for which in range(2)]
        tally.refused += sum(code != 0 for code in codes)
        if (
            set(codes) - {0, 1}
            or codes == [1, 1]
            or any(code and "Error: " not in text for code, text in zip(codes, texts))
        ):
            tally.wrong.append(f"{job.name} twice, pair {pair}: exit {codes}: {' '.join(texts)[-300:]}")
        _compare(tally, f"{job.name} twice", job, folder, expected, 0, "".join(texts))
    return tally


def fill_disk(job: Job, work: Path, megabytes: int) -> Tally:
    """Run a command on a disk that is too small, then make room and resume. The disk is a tmpfs, which needs root."""
    tally = Tally(tried=1)
    expected, _ = _unbroken(job, work / "unbroken")
    disk = work / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", disk], check=True)
    try:
        folder = disk / "folder"
        folder.mkdir()
        job.prepare(folder)
        size = shutil.disk_usage(disk).used + megabytes * 2**20 + 2**16
        subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
        full = run(*job.words(folder))
        tally.refused += full.code == 1
        if full.code not in (0, 1):
            tally.crashed.append(f"{job.name} on a full disk: exit {full.code}: {full.output[-300:]}")
        tally.check_text(f"{job.name} on a full disk", full.output)
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", disk], check=True)
        begun = bool(job.resume) and (folder / "run/run.json").exists()
        outcome = run(*job.words(folder), *(job.resume if begun else []))
        _compare(tally, f"{job.name} after a full disk", job, folder, expected, outcome.code, outcome.output)
    finally:
        subprocess.run(["umount", disk], check=True)
    return tally


def _fresh(job: Job, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job.prepare(folder)
    return folder


def _unbroken(job: Job, folder: Path) -> tuple[dict[str, str], float]:
    """Hashes of what a command makes, and the seconds that it takes."""
    outcome = run(*job.words(_fresh(job, folder)))
    hashes = job.hashes(folder)
    if outcome.code or not hashes or "" in hashes.values():
        raise RuntimeError(f"{job.name} failed: {outcome.output}")
    return hashes, outcome.seconds


def _compare(tally: Tally, case: str, job: Job, folder: Path, expected: dict[str, str], code: int, output: str) -> None:
    tally.check_text(case, output)
    if code:
        tally.crashed.append(f"{case}: exit {code}: {output[-300:]}")
    found = job.hashes(folder)
    tally.lost += len(expected.keys() - found.keys())
    tally.wrong += [
        f"{case}: other bytes in {name}" for name in expected if found.get(name, expected[name]) != expected[name]
    ]
    left = [path for path in folder.rglob(".*") if path.is_file() and path.name.startswith(".tmp")]
    tally.wrong += [f"{case}: left {path.name}" for path in left]
