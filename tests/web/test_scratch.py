"""Files of the server's folder are deleted when the page says so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from facecade.web import scratch
from facecade.web.scratch import delete_old, scratch_folder


def test_only_old_files_and_empty_folders_are_deleted(tmp_path: Path) -> None:
    for name in ("old/a.jpg", "old/sub/b.jpg", "mixed/old.jpg", "mixed/new.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    past = time.time() - 100
    for path in tmp_path.rglob("*"):
        if path.name != "new.jpg":
            os.utime(path, (past, past))
    delete_old(tmp_path, 50)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"mixed/new.jpg"} and not (tmp_path / "old/a.jpg").exists()


def test_uploads_go_while_the_server_runs_and_the_folder_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LIFETIME_SECONDS", 0.1)
    monkeypatch.setattr(scratch, "CHECK_SECONDS", 0.05)
    with scratch_folder() as folder:
        (folder / "upload.jpg").write_bytes(b"1")
        end = time.monotonic() + 5
        while (folder / "upload.jpg").exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert not (folder / "upload.jpg").exists() and folder.exists()
        (folder / "last.jpg").touch()
    assert not folder.exists()
