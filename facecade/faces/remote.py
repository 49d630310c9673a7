"""A dataset at a URL is copied to this machine once, and read from there like any other folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from facecade.base.artifact import Record, valid_record, write_record, writing
from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.files import MAX_IMAGE_BYTES
from facecade.base.lock import locked
from facecade.base.progress import Bar, note
from facecade.base.storage import filesystem, store_errors
from facecade.faces.listing import IMAGE_SUFFIXES, passed_over_text

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".json")

REQUESTS = 16
"""Files that are fetched at the same time: a request waits for the network, not for a core."""

MAX_FILES = 2_000_000
"""Files of one dataset: training data. Millions of images to predict are a listing, which is not copied."""

WAIT_SECONDS = 24 * 3600.0
"""How long to wait for another process that copies the same dataset."""

RECORD = ".copy.json"


RECORDED_FILES = 1000
"""After so many files the record is written: a killed copy continues from there."""


class Copied(Record):
    """What a copy holds: of each file the state that the store gave when it was fetched. url: of the folder."""

    made_by = "check URL"
    max_bytes = 1 << 30
    indent = None

    url: str
    files: dict[str, str]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a store. key: its path there; size: in bytes; state: text that changes when the file does."""

    key: str
    size: int
    state: str


def copies_folder() -> Path:
    """Where datasets from URLs are copied to: FACECADE_COPIES, or a folder of the user's cache."""
    if given := os.environ.get("FACECADE_COPIES"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facecade/copies"


def local_copy(url: str) -> Path:
    """Copy the images and tables of a dataset, and return where the dataset is on this machine.

    A second call fetches what is new or has changed in the store, and removes what is gone there.

    Args:
        url: of a folder, or of a table or an image in it; of a table, all images below its folder are copied.

    Raises:
        FacecadeError: a scheme that is not allowed; nothing there; no space; the store or the network fails.
    """
    files = filesystem(url)
    name = PurePosixPath(url.partition("://")[2]).name
    suffix = PurePosixPath(name).suffix.lower()
    single = suffix in TABLE_SUFFIXES or suffix in IMAGE_SUFFIXES
    folder_url = url.rstrip("/").rpartition("/")[0] if single else url.rstrip("/")
    found, passed_over = _list(files, folder_url, name if suffix in IMAGE_SUFFIXES else "")
    if not found or (single and name not in found):
        raise FacecadeError(f"{excerpt(url)}: no images or tables there", "check the address and your access to it")
    target = copies_folder() / hashlib.sha256(folder_url.encode()).hexdigest()[:16]
    with locked(target, WAIT_SECONDS):
        fetched, there = _update(files, folder_url, found, target, whole=suffix not in IMAGE_SUFFIXES)
    if passed_over:
        note(f"{excerpt(url)}: {passed_over_text(dict(sorted(passed_over.items())))}")
    note(f"{excerpt(url)}: {fetched:,} files copied, {there:,} were there: {target}")
    return target / name if single else target


def _list(files: Any, folder_url: str, only: str) -> tuple[dict[str, RemoteFile], Counter[str]]:
    """The files of a dataset by their path in it, and the number of others by reason."""
    listed = []
    with store_errors(folder_url), suppress(FileNotFoundError):
        files.invalidate_cache()
        base = str(files._strip_protocol(folder_url)).rstrip("/")
        listed = [files.info(f"{base}/{only}")] if only else list(files.find(base, detail=True).values())
    if len(listed) > MAX_FILES:
        raise FacecadeError(
            f"{excerpt(folder_url)} has {len(listed):,} files, more than {MAX_FILES:,}",
            "give a folder with the training data alone; to predict, give a listing",
        )
    found: dict[str, RemoteFile] = {}
    passed_over: Counter[str] = Counter()
    for info in listed:
        key, size = str(info["name"]), int(info.get("size") or 0)
        path = key.removeprefix(base).removeprefix("/")
        if reason := _reason(path, size):
            passed_over[reason] += 1
        else:
            found[path] = RemoteFile(key, size, _state(info))
    return found, passed_over


def _reason(path: str, size: int) -> str:
    """Why a file is not copied; empty if it is."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts) or ":" in parts[0]:
        return "name that is no path"
    if any(part.startswith(".") for part in parts):
        return "hidden file"
    if any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in parts):
        return "name of over 255 bytes"
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in (*IMAGE_SUFFIXES, *TABLE_SUFFIXES):
        return f"{suffix[:10]} file" if suffix else "file without extension"
    return "too large" if size > MAX_IMAGE_BYTES else ""


def _state(info: Mapping[str, Any]) -> str:
    """Text that differs when a file of a store has changed: its hash where the store has one, else its time and size."""
    hashes = [str(info[key]) for key in ("ETag", "etag", "md5Hash", "crc32c", "content_md5") if info.get(key)]
    times = [
        str(info[key]) for key in ("LastModified", "last_modified", "updated", "mtime", "created") if info.get(key)
    ]
    return " ".join([*(hashes or times), str(info.get("size"))])[:300]


def _update(files: Any, folder_url: str, found: Mapping[str, RemoteFile], target: Path, whole: bool) -> tuple[int, int]:
    """Make a copy equal to what was found, and return the number of files that were fetched, and that were there.

    Args:
        whole: whether `found` is the whole dataset, so that other files of the copy are removed.
    """
    record = valid_record(target / RECORD, Copied)  # a damaged one: all is fetched again
    states = dict(record.files) if record else {}
    there = {path for path, file in found.items() if _is_there(target / path, file, states.get(path))}
    missing = {path: file for path, file in found.items() if path not in there}
    needed, free = sum(file.size for file in missing.values()), shutil.disk_usage(target).free
    if needed > free:
        raise FacecadeError(
            f"{excerpt(folder_url)} needs {needed / 2**30:.1f} GiB, and {target} has {free / 2**30:.1f} GiB free",
            "make room, or set FACECADE_COPIES to another folder",
        )
    for path in (states.keys() if whole else missing.keys() & states.keys()) - there:
        (target / path).unlink(missing_ok=True)
        del states[path]
    with Bar("copying", len(missing), "files") as progress, ThreadPoolExecutor(REQUESTS) as pool:
        try:
            jobs = {path: pool.submit(_fetch, files, file, target / path) for path, file in missing.items()}
            for path, job in jobs.items():
                job.result()
                states[path] = missing[path].state
                progress.advance()
                if len(states) % RECORDED_FILES == 0:
                    write_record(target / RECORD, Copied(url=folder_url, files=states))
        finally:
            write_record(target / RECORD, Copied(url=folder_url, files=states))
            pool.shutdown(wait=False, cancel_futures=True)
    return len(missing), len(there)


def _is_there(path: Path, file: RemoteFile, state: str | None) -> bool:
    return state == file.state and path.is_file() and path.stat().st_size == file.size


def _fetch(files: Any, file: RemoteFile, target: Path) -> None:
    temporary = target.with_name(f".tmp-{uuid4().hex}")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.get_file(file.key, str(temporary))
        if temporary.stat().st_size != file.size:
            raise ValueError("it changed while it was copied")
        temporary.replace(target)
    except Exception as error:  # each store raises its own
        raise FacecadeError(
            f"{excerpt(file.key)}: {first_line(error)}", "run the command again: it continues"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
