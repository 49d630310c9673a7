"""The server's folder of uploads and downloads, whose files are deleted after some minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

LIFETIME_SECONDS, CHECK_SECONDS = 240.0, 60.0

LIFETIME_TEXT = f"within {(LIFETIME_SECONDS + CHECK_SECONDS) / 60:g} minutes"
"""When a file is certainly deleted."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder; its files are deleted LIFETIME_SECONDS after they were written, all of them at the end."""
    stopped = threading.Event()
    with TemporaryDirectory(prefix="facecade-", ignore_cleanup_errors=True) as folder:

        def clean() -> None:
            while not stopped.wait(CHECK_SECONDS):
                delete_old(Path(folder), LIFETIME_SECONDS)

        threading.Thread(target=clean, daemon=True).start()
        try:
            yield Path(folder)
        finally:
            stopped.set()


def delete_old(folder: Path, seconds: float) -> None:
    """Delete the files of a folder that are older, and subfolders that are then empty."""
    oldest = time.time() - seconds
    for path in sorted(folder.rglob("*"), reverse=True):  # the content of a folder comes before it
        with suppress(OSError):  # it may be deleted, or filled, at the same time
            if path.stat().st_mtime < oldest:
                path.rmdir() if path.is_dir() else path.unlink()
