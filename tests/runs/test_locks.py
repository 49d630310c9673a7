"""Two commands at once in one folder: what would collide is refused at once, what would not is done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import TINY, call, succeed

from facecade import pipeline
from facecade.base import lease
from facecade.base.artifact import write_text
from facecade.base.errors import FacecadeError
from facecade.base.lock import locked
from facecade.base.machine import Machine
from facecade.runs.run import open_run

ROOT = Path(__file__).resolve().parents[2]
HOLD = "import sys; from pathlib import Path; from facecade.base.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run."""
    shutil.copytree(fitted, tmp_path / "run")
    return tmp_path / "run"


def refused(*words: object, folder: Path) -> None:
    """The command names the folder in which another process works, and changes nothing there."""
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    result = call(*words)
    assert result.exit_code == 1, result.output
    assert f"Error: another process works in {folder}\nNext: wait" in result.stderr, result.stderr
    assert files == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_fit_is_fitted_by_one_process_and_other_fits_by_others(run: Path) -> None:
    with locked(run / "stages/joint/fold1"):
        for words in (["all"], ["joint"], ["joint", "--fold", 1]):
            refused("fit-stage", *words, "--artifacts", run, folder=run / "stages/joint/fold1")
        succeed("fit-stage", "mask", "--fold", 0, "--artifacts", run)
        succeed("fit-stage", "joint", "--resume", "--artifacts", run)
        succeed("fit-stage", "joint", "--dry-run", "--artifacts", run)
    succeed("fit-stage", "joint", "--fold", 1, "--artifacts", run)


def test_a_run_is_not_begun_anew_while_others_fit_it(run: Path, drawn: Path) -> None:
    begin = ["fit-stage", "mask", "--data", drawn / "train", "--recipe", "demo", *TINY, "--artifacts", run]
    for folder in (run / "stages/joint/fold1", run / "combiner", run):
        with locked(folder):
            refused(*begin, folder=folder)
            succeed(*begin, "--dry-run")


def test_a_fit_does_not_start_in_a_run_that_was_begun_anew(run: Path) -> None:
    opened, record = open_run(run), json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "labels_hash": "0" * 16}))
    with pytest.raises(FacecadeError, match=r"begun the run in .* anew"):
        pipeline.fit_stage(opened, ["mask"], [0], Machine(), resume=False)
    assert (run / "stages/mask/fold0/meta.json").exists()


def test_a_fit_of_another_machine_is_left_alone(run: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock means nothing here, over NFS; its lease does, while it is renewed."""
    monkeypatch.setattr(lease, "STALE_SECONDS", 1.0)
    file, ended = run / "stages/joint/fold1/.lease", threading.Event()

    def renew() -> None:
        count = 0
        while not ended.is_set():
            held = lease.Lease(machine="other", host="node7", process=1, token="x", renewed=(count := count + 1))
            write_text(file, held.model_dump_json())
            time.sleep(0.1)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    time.sleep(0.2)
    begin = ["fit-stage", "mask", "--data", drawn / "train", "--recipe", "demo", *TINY]
    for words in (["fit-stage", "joint", "--fold", 1], begin):
        result = call(*words, "--artifacts", run)
        assert result.exit_code == 1 and f"another process works in {file.parent}, on node7" in result.stderr
    succeed("fit-stage", "joint", "--fold", 0, "--artifacts", run)
    ended.set()
    thread.join()
    assert "waiting up to 1 s" in call("fit-stage", "joint", "--fold", 1, "--artifacts", run).stderr
    assert not file.exists() and open_run(run).state("joint", 1) == "fitted"


def test_every_folder_that_is_written_is_written_by_one_command(run: Path, drawn: Path, tmp_path: Path) -> None:
    output, new = tmp_path / "output", tmp_path / "new"
    cases: list[tuple[Path, list[object]]] = [
        (run / "combiner", ["fit-meta", "--artifacts", run]),
        (run, ["fit-meta", "--artifacts", run, "--set", "combiner.rounds=4"]),
        (run / "pseudo", ["pseudo-label", drawn / "eval", "--artifacts", run]),
        (output, ["export", output, "--artifacts", run]),
        (output, ["infer", drawn / "eval", "--artifacts", run, "--output", output]),
        (output, ["report", "--artifacts", run, "--output", output]),
        (output, ["audit", "--artifacts", run, "--output", output]),
        (output, ["eda", drawn / "eval", "--recipe", "demo", "--output", output]),
        (output, ["draw", output]),
        (output, ["compare", "demo", "--data", drawn / "train", "--artifacts", new, "--output", output]),
        (new, ["compare", "demo", "--data", drawn / "train", "--artifacts", new, "--output", output]),
        (new / "mask", ["tune", "mask", "--data", drawn / "train", "--recipe", "demo", "--artifacts", new]),
    ]
    for folder, words in cases:
        with locked(folder):
            refused(*words, folder=folder)


def test_a_folder_is_free_when_its_process_was_killed(run: Path) -> None:
    folder = run / "combiner"
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"held\n"
    refused("fit-meta", "--artifacts", run, folder=folder)
    process.kill()
    process.communicate()
    (folder / ".tmp-1-alignment-joint.npz").write_bytes(b"half")
    (folder / "hard-cascade/.tmp-1-meta.json").write_bytes(b"half")
    succeed("fit-meta", "--artifacts", run)
    assert not list(run.rglob(".tmp-*"))
