"""Copies a run's face crops to a machine's own disk, once: training reads them in random order, which a network mount does slowly."""

from __future__ import annotations

import math
import os
import shutil
import stat
import time
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from facecade.base.artifact import digest
from facecade.base.progress import note
from facecade.stages.fit import RunData

SPARE_BYTES = 1 << 30
"""Room that a copy leaves on the disk."""

UNUSED_SECONDS = 7 * 86400
"""After this time without a use, a copy is removed when another one is made."""


def on_local_disk(run_data: RunData, folder: Path | None) -> RunData:
    """The data with the crops in a folder of this machine's disk; unchanged for None, and, with a note, where the folder is not
    this user's alone or the disk is too full.

    The copy is named by where the crops are, how many, and when they changed. One process copies, and others wait for it.
    """
    if folder is None or not run_data.pixels.exists():
        return run_data
    status, size = run_data.pixels.stat(), math.prod(run_data.shape)
    name = digest([str(run_data.pixels.resolve()), status.st_size, status.st_mtime_ns, size])
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_own(folder):
            note(f"face crops are not copied to {folder}: it is not yours alone")
            return run_data
        copy = folder / name / run_data.pixels.name
        with FileLock(folder / f"{name}.lock"):
            if not (copy.exists() and copy.stat().st_size == size):
                _remove_unused(folder)
                if shutil.disk_usage(folder).free < size + SPARE_BYTES:
                    note(f"face crops are not copied to {folder}: it lacks room for {size / 1e9:.1f} GB")
                    return run_data
                _copy(run_data.pixels, copy, size)
            os.utime(folder / f"{name}.lock")
    except OSError as error:
        note(f"face crops are not copied to {folder}: {error.strerror or error}")
        return run_data
    return replace(run_data, pixels=copy)


def _copy(source: Path, copy: Path, size: int) -> None:
    """Copy the first `size` bytes; others may be appended meanwhile."""
    copy.parent.mkdir(exist_ok=True)
    temporary = copy.with_name(f".tmp-{os.getpid()}-{copy.name}")
    try:
        with source.open("rb") as read, temporary.open("wb") as written:
            left = size
            while left and (block := read.read(min(left, 1 << 24))):
                written.write(block)
                left -= len(block)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)


def _is_own(folder: Path) -> bool:
    """Whether only this user can write to a folder: others could put crops of their own there."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and (
        not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    )


def _remove_unused(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        if time.time() - lock.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
