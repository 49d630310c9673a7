"""Disks that are full, forbidden or in the way: every command says so in words, and what was there stays."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import TINY, call, succeed

ROOT = Path(__file__).resolve().parents[2]

WRITING = {
    "fit-stage": ["mask", "--data", "{drawn}/train", "--recipe", "demo", *TINY, "--artifacts", "{to}"],
    "fit-meta": ["--artifacts", "{run}"],
    "infer": ["{drawn}/eval", "--artifacts", "{fitted}", "--engine", "torch", "--output", "{to}"],
    "explain": ["{image}", "--artifacts", "{fitted}", "--attention", "{to}"],
    "evaluate": ["{predicted}/submission.csv", "{drawn}/eval/eval_labels.csv", "--output", "{to}"],
    "report": ["--artifacts", "{fitted}", "--output", "{to}"],
    "audit": ["--artifacts", "{fitted}", "--output", "{to}"],
    "eda": ["{drawn}/eval", "--recipe", "demo", "--output", "{to}"],
    "export": ["{to}", "--artifacts", "{fitted}"],
    "draw": ["{to}", "--people", "12"],
    "pseudo-label": ["{drawn}/eval", "--artifacts", "{run}", "--engine", "torch", "--confidence", "0.1"],
    "compare": ["demo", "--data", "{drawn}/train", "--folds", "3", "--artifacts", "{new}", "--output", "{to}"],
    "tune": ["mask", "--data", "{drawn}/train", "--recipe", "demo", "--trials", "1", "--artifacts", "{to}", *TINY[:-2]],
}
"""Words of every command that writes, and where to: {to}, or the run itself."""


COMPUTING = {
    "fit-stage": "facecade.runs.prepare.begin_run",
    "infer": "facecade.pipeline.load_cascade",
    "report": "facecade.pages.report.write_report",
    "audit": "facecade.pages.audit.write_audit",
    "eda": "facecade.pages.eda.write_eda",
    "export": "facecade.inference.export.write_export",
    "draw": "facecade.faces.synthetic.draw_data",
    "compare": "facecade.comparison.compare.compare",
    "tune": "facecade.comparison.tune.tune",
}
"""The function of each command that takes long, and writes."""


@pytest.fixture(scope="module")
def predicted(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("predicted")
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", output)
    return output


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that is full: no file of this process becomes larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder that have a name for others; a run's cache grows a crop at a time."""
    files = [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.startswith(".")}


@pytest.mark.parametrize("command", sorted(WRITING))
def test_a_full_disk_is_said_in_a_sentence(
    command: str, fitted: Path, drawn: Path, predicted: Path, tmp_path: Path
) -> None:
    run, to = tmp_path / "run", tmp_path / "to"
    shutil.copytree(fitted, run)
    before = content(run)
    image = next((drawn / "eval/images").iterdir())
    places = {"drawn": drawn, "fitted": fitted, "run": run, "to": to, "predicted": predicted, "image": image}
    words = [word.format(**places, new=tmp_path / "new") for word in WRITING[command]]
    with files_of_at_most(100):
        result = call(command, *words)
    assert result.exit_code == 1, result.output
    assert "File too large" in result.stderr and str(tmp_path) in result.stderr, result.stderr
    assert "bug" not in result.output and "Traceback" not in result.output
    assert "free some space" in result.stderr, result.stderr
    assert content(run) == before, "what was there stays"
    assert not any(content(to).values()), "nothing half written has a name"


@pytest.mark.parametrize("command", sorted(COMPUTING))
def test_output_below_a_file_is_refused_before_anything_is_computed(
    command: str, fitted: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(COMPUTING[command], compute)
    (tmp_path / "file").write_text("mine")
    places = {"drawn": drawn, "fitted": fitted, "to": tmp_path / "file/below"}
    words = [word.format(**places, new=tmp_path / "new") for word in WRITING[command]]
    result = call(command, *words)
    assert result.exit_code == 1 and "computed" not in repr(result.exception)
    assert "file/below" in result.stderr and "cannot be written: a part of the path is a file" in result.stderr
    assert result.stderr.count("\n") == 2 and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_any_refusal_of_the_system_is_said_in_a_sentence(
    code: int, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = call("report", "--artifacts", fitted, "--output", tmp_path / "new")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path / 'new'} cannot be written: {os.strerror(code)}\nNext: ")
    monkeypatch.setattr("facecade.report.evaluate.match", refuse)
    result = call("evaluate", "a.csv", "b.csv", "--output", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: a.csv cannot be read or written: {os.strerror(code)}\nNext: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_behind_a_pipe_is_said_in_a_sentence(fitted: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "cli.py", "ls", "--artifacts", str(fitted)]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0 and "No space left on device" in done.stderr and "Traceback" not in done.stderr
