"""A folder is held by one process at a time, and what a killed process left half written is removed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from facecade.base.errors import FacecadeError
from facecade.base.lock import LOCK_FILE, locked, require_free

WRITES_FOR_EVER = """
import sys, time
from pathlib import Path
from facecade.base.artifact import write_atomic
from facecade.base.lock import locked

def write(path):
    path.write_text("half")
    print("begun", flush=True)
    time.sleep(600)

with locked(Path(sys.argv[1])):
    write_atomic(Path(sys.argv[1]) / "weights.safetensors", write)
"""


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    refused = pytest.raises(FacecadeError, match=f"another process works in {folder}$")
    with locked(folder), locked(folder / "below"), refused as error, locked(folder):
        pass
    assert error.value.hint
    with locked(folder):
        pass


def test_what_a_killed_process_left_is_removed_when_the_folder_is_held_again(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_text("whole")
    (tmp_path / ".tmp-notes").write_text("not ours")
    process = subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"begun\n"
    with pytest.raises(FacecadeError, match="another process"), locked(tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 4, "a refused process removes nothing"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {LOCK_FILE, ".tmp-notes", "weights.safetensors"}
    assert (tmp_path / "weights.safetensors").read_text() == "whole"


def test_who_writes_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "new/deep"):
        raise KeyboardInterrupt
    require_free(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with locked(tmp_path / "old/new"):
        (tmp_path / "old/new/file").write_text("")
    require_free(tmp_path / "old")
    assert (tmp_path / "old/new/file").exists()


def test_who_waits_gets_the_folder_when_it_is_free(tmp_path: Path) -> None:
    def made() -> bool:
        with locked(tmp_path, wait=30):
            return (tmp_path / "made").exists()

    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path):
            with pytest.raises(FacecadeError, match="another process works in"), locked(tmp_path, wait=0.1):
                pass
            later = pool.submit(made)
            time.sleep(0.2)
            assert not later.done()
            (tmp_path / "made").write_text("")
        assert later.result(), "what the first one made is there"


def test_who_waits_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("facecade.base.lock.QUIET_SECONDS", 0.2)
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path):

            def wait() -> None:
                with locked(tmp_path, wait=30):
                    pass

            waiting = pool.submit(wait)
            deadline, said = time.monotonic() + 20, ""
            while "waiting for another process" not in said and time.monotonic() < deadline:
                said += capsys.readouterr().err
                time.sleep(0.05)
        waiting.result(timeout=20)
    assert said.replace("\n", "").count(str(tmp_path)) == 1
