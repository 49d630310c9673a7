"""One process at a time writes to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from facecade.base.artifact import remove_leftovers, writing
from facecade.base.errors import FacecadeError

LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, without its subfolders, while this process writes to it; make it if it does not exist, and remove
    what killed processes left half written in it.

    Nobody waits for a lock, so there is no deadlock. It ends with its process, however that ends; its file stays.

    Raises:
        FacecadeError: another process holds the folder, or it cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise FacecadeError(
                f"another process works in {folder}", "wait until it ends, or give another folder"
            ) from None
    try:
        remove_leftovers(folder)
        yield
    finally:
        lock.release()
