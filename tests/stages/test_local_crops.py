"""Crops on a machine's own disk: one copy, whoever comes first, and the mount where that cannot be."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from facecade.stages import local_crops
from facecade.stages.fit import RunData
from facecade.stages.local_crops import on_local_disk


@pytest.fixture
def data(tmp_path: Path) -> RunData:
    crops = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), np.uint8)
    (tmp_path / "crops.u8").write_bytes(crops.tobytes() + b"appended by another run")
    return RunData(pd.DataFrame(), tmp_path / "crops.u8", crops.shape, np.arange(5), np.arange(2))


def test_many_processes_make_one_copy(data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Path] = []
    copy = local_crops._copy
    monkeypatch.setattr(local_crops, "_copy", lambda *arguments: (copies.append(arguments[1]), copy(*arguments)))
    found: list[RunData] = []
    threads = [threading.Thread(target=lambda: found.append(on_local_disk(data, tmp_path / "disk"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 1 and {each.pixels for each in found} == set(copies)
    assert np.array_equal(found[0].crops(), data.crops())
    assert copies[0].stat().st_size == data.crops().size and (tmp_path / "disk").stat().st_mode & 0o777 == 0o700
    with data.pixels.open("ab") as file:
        file.write(b"more")
    assert on_local_disk(data, tmp_path / "disk").pixels != found[0].pixels, "other crops have another name"


def test_a_half_made_or_old_copy_is_made_again(data: RunData, tmp_path: Path) -> None:
    copy = on_local_disk(data, tmp_path / "disk").pixels
    copy.write_bytes(b"half")
    assert np.array_equal(on_local_disk(data, tmp_path / "disk").crops(), data.crops())
    lock = copy.parent.with_suffix(".lock")
    os.utime(lock, (0, 0))
    on_local_disk(replace(data, shape=(4, 4, 3, 3)), tmp_path / "disk")
    assert not copy.exists() and not lock.exists(), "a copy that nobody used for a week is removed"


@pytest.mark.parametrize("why", ["full", "of others", "not writable", "a link"])
def test_crops_are_read_where_they_are_if_they_cannot_be_copied(
    why: str, data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    disk = tmp_path / "disk"
    if why == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 30))
    elif why == "of others":
        disk.mkdir()
        disk.chmod(0o777)
    elif why == "a link":
        (tmp_path / "there").mkdir()
        disk.symlink_to(tmp_path / "there")
    else:
        disk.write_text("a file")
    assert on_local_disk(data, disk) is data
    assert capsys.readouterr().err.startswith(f"face crops are not copied to {disk}: ")
    assert on_local_disk(data, None) is data
