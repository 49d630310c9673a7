"""One process at a time writes to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from facecade.base.artifact import remove_leftovers, writing
from facecade.base.errors import FacecadeError
from facecade.base.progress import note

LOCK_FILE = ".lock"

QUIET_SECONDS = 1.0
"""After which a process says that it waits."""


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder, without its subfolders, while this process writes to it. At first, make it if it does not exist, and remove
    what killed processes left half written in it; at the end, remove it if it is new and still empty.

    A lock ends with its process, however that ends; its file stays.

    Args:
        wait: seconds to wait for a process that holds the folder. Who waits may hold no other folder, so there is no deadlock.

    Raises:
        FacecadeError: another process holds the folder, or it cannot be written.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = FileLock(folder / LOCK_FILE)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _acquire(lock, folder, wait)
        except Timeout:
            raise FacecadeError(
                f"another process works in {folder}", "wait until it ends, or give another folder"
            ) from None
    try:
        remove_leftovers(folder)
        yield
    finally:
        _remove_if_empty(folder, new)
        lock.release()


def _acquire(lock: FileLock, folder: Path, wait: float) -> None:
    """Acquire a lock, and say so if that takes long; raises Timeout after `wait` seconds."""
    try:
        lock.acquire(timeout=min(wait, QUIET_SECONDS))
    except Timeout:
        if wait <= QUIET_SECONDS:
            raise
        note(f"waiting for another process, which works in {folder}")
        lock.acquire(timeout=wait - QUIET_SECONDS)


def require_free(folder: Path) -> None:
    """Raises FacecadeError, as `locked` does, if the folder cannot be held now: better before hours of work than after."""
    with locked(folder):
        pass


def _remove_if_empty(folder: Path, new: list[Path]) -> None:
    """Remove the lock file and the new ones of the folder and its parents, if nothing else is in them."""
    if folder in new and [path.name for path in folder.iterdir()] == [LOCK_FILE]:
        (folder / LOCK_FILE).unlink()
        for path in new:
            if any(path.iterdir()):
                break
            path.rmdir()
