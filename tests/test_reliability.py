"""A short form of `benchmarks/reliability.py`: broken input of every kind, a few cases of each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fuzz import artifacts, images, processes, running, tables
from benchmarks.fuzz.tally import Tally

ROOT = Path(__file__).resolve().parents[1]


def clean(tally: Tally) -> Tally:
    assert tally.lost == 0 and tally.crashed == [] and tally.wrong == []
    return tally


@pytest.fixture(scope="module")
def source(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and run/, as `fuzz.processes` expects it."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "data").symlink_to(drawn)
    shutil.copytree(fitted, folder / "run")
    return folder


def test_mutated_images(source: Path, tmp_path: Path) -> None:
    tally = clean(images.infer_mutated(source / "run", tmp_path, 0, 80))
    assert tally.tried == 80 and 20 < tally.refused < 80


@pytest.mark.parametrize("kind", list(tables.HEADS))
def test_tables(kind: str) -> None:
    tally = clean(tables.fuzz_tables(kind, 100))
    assert tally.tried == 100 and tally.refused > 20


def test_recipes() -> None:
    assert clean(tables.fuzz_recipes(100)).refused > 60


def test_damaged_runs(source: Path, drawn: Path, tmp_path: Path) -> None:
    faces = sorted((drawn / "eval/images").iterdir())[:2]
    assert clean(artifacts.fuzz_artifacts(source / "run", faces, tmp_path, 0, 20)).refused > 2


@pytest.mark.parametrize("stop", [running.kill, running.interrupt])
def test_stopped_commands_resume_to_the_same_bytes(
    stop: Callable[[subprocess.Popen[bytes]], str], source: Path, tmp_path: Path
) -> None:
    clean(processes.stop_at_random(processes.jobs(source)["infer"], stop, tmp_path, stops=1, seed=0))


def test_a_command_twice_at_once(source: Path, tmp_path: Path) -> None:
    clean(processes.run_twice(processes.jobs(source)["infer"], tmp_path, pairs=1))


def test_the_fuzzer_of_parsers_finds_an_exception(tmp_path: Path) -> None:
    """It would be worth nothing if it passed whatever a parser does."""
    pytest.importorskip("atheris", reason="pip install -e '.[dev]'")
    for target, code in (("csv", 0), ("fails", 1)):
        words = [
            sys.executable,
            "-m",
            "benchmarks.fuzz.parsers",
            target,
            "-atheris_runs=200",
            "-rss_limit_mb=0",  # the peak that the system tells a process of includes its parent's: here pytest's
            f"-artifact_prefix={tmp_path}/",
        ]
        result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, errors="replace")
        assert bool(result.returncode) == bool(code) == ("ZeroDivisionError" in result.stdout), result.stderr
