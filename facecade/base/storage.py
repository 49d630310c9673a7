"""Files by path, or by URL of an object store through fsspec: read with a bound on their size, and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

from facecade.base.artifact import remove_leftovers, writing
from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.files import TOO_LARGE, not_regular
from facecade.base.place import Place, join
from facecade.base.program import install

STORES = {"s3", "gs", "gcs", "az", "abfs", "abfss"}
"""Schemes of object stores, where an object appears when it is whole. A listing of a stranger may name such URLs; not `file://`,
which leads out of its folder."""

HTTP = {"http", "https"}
"""Schemes that a user allows explicitly: they reach the services of the own network, too."""


def scheme_problem(url: str, allow_http: bool) -> str:
    """Why a URL is not opened; empty if it may be."""
    scheme = url.partition("://")[0].lower()
    if scheme in STORES or (allow_http and scheme in HTTP):
        return ""
    return f"{scheme}:// is not allowed" + (" without --allow-http" if scheme in HTTP else "")


def filesystem(url: str, allow_http: bool = False) -> Any:
    """fsspec's file system of a URL.

    Raises:
        FacecadeError: a scheme that is not allowed; fsspec or its package for the scheme is not installed.
    """
    if problem := scheme_problem(url, allow_http):
        schemes = ", ".join(f"{each}://" for each in sorted(STORES))
        raise FacecadeError(f"{excerpt(url)}: {problem}", f"give a path, or a URL of {schemes}")
    try:
        import fsspec

        return fsspec.filesystem(url.partition("://")[0].lower())
    except ImportError as error:
        raise FacecadeError(
            f"{excerpt(url)}: {first_line(error)}",
            f"{install('remote')}, and fsspec's package for the store: s3fs, gcsfs, adlfs or aiohttp",
        ) from None


def fetch(url: str, max_bytes: int, allow_http: bool = False) -> bytes:
    """The bytes of a URL: one request to an object store.

    Raises:
        FacecadeError: as of `filesystem`. FileNotFoundError. ValueError: over `max_bytes`. Other errors are those of the network.
    """
    files, wanted = filesystem(url, allow_http), max_bytes + 1
    if url.partition("://")[0].lower() in HTTP:  # a server may ignore the range and send everything
        with files.open(url, "rb") as file:
            data = file.read(wanted)
    else:
        data = files.cat_file(url, start=0, end=wanted)
    if len(data) > max_bytes:
        raise ValueError(TOO_LARGE)
    return bytes(data)


def open_place(place: Place, allow_http: bool = False) -> BinaryIO:
    """Open a file to read, of any size.

    Raises:
        FacecadeError: it is missing, no regular file, or cannot be opened.
    """
    try:
        if isinstance(place, str):
            opened: BinaryIO = filesystem(place, allow_http).open(place, "rb")
            return opened
        if (reason := not_regular(place)) and reason != TOO_LARGE:
            raise FacecadeError(f"{place}: {reason}", "give a file")
        return place.open("rb")
    except FileNotFoundError:
        raise FacecadeError(f"{place} does not exist", "check its name") from None
    except FacecadeError:
        raise
    except Exception as error:  # each store raises its own
        raise FacecadeError(
            f"{place} cannot be read: {first_line(error)}", "check the address and your access to it"
        ) from None


class Folder(Protocol):
    """A folder of files that appear when they are whole."""

    place: Place

    def names(self) -> set[str]:
        """The files in it; none where it does not exist."""

    def put(self, name: str, write: Callable[[Path], object]) -> None:
        """Call `write(temporary)`, then give the file its name; raises FacecadeError where it cannot be written."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def clean(self, pattern: str) -> None:
        """Remove what killed processes left of files of these names. Nobody may be writing them."""


def open_folder(place: Place) -> Folder:
    """A folder of results; raises FacecadeError for a URL that cannot be one."""
    return LocalFolder(place) if isinstance(place, Path) else UrlFolder(place)


class LocalFolder:
    """A folder of this machine, or one that several mount."""

    def __init__(self, place: Path) -> None:
        self.place: Place = place
        self._folder = place

    def names(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()

    def put(self, name: str, write: Callable[[Path], object]) -> None:
        # Not by the number of the process: in containers on several machines it is often the same.
        temporary = self._folder / f".tmp-{uuid4().hex}-{name}"
        with writing(self._folder / name):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                write(temporary)
                with open(temporary, "r+b") as file:
                    os.fsync(file.fileno())
                temporary.replace(self._folder / name)
            finally:
                temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def clean(self, pattern: str) -> None:
        remove_leftovers(self._folder, pattern)


class UrlFolder:
    """A prefix of an object store."""

    def __init__(self, place: str) -> None:
        self.place: Place = place
        filesystem(place)  # better now than after hours of work

    @cached_property
    def _files(self) -> Any:
        return filesystem(str(self.place))

    def names(self) -> set[str]:
        with store_errors(self.place):
            self._files.invalidate_cache()
            try:
                return {str(path).rpartition("/")[2] for path in self._files.ls(self.place, detail=False)}
            except FileNotFoundError:
                return set()

    def put(self, name: str, write: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory() as scratch, store_errors(join(self.place, name)):
            write(Path(scratch, name))
            self._files.put_file(str(Path(scratch, name)), str(join(self.place, name)))

    def remove(self, name: str) -> None:
        with store_errors(join(self.place, name)):
            self._files.rm_file(str(join(self.place, name)))

    def clean(self, pattern: str) -> None:
        """Nothing is left: an object is whole."""


@contextmanager
def store_errors(place: Place) -> Iterator[None]:
    """Raises FacecadeError, which names the place, for any error of a store."""
    try:
        yield
    except FacecadeError:
        raise
    except Exception as error:  # each store raises its own
        raise FacecadeError(f"{place}: {first_line(error)}", "check the address and your access to it") from error
