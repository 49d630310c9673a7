"""A listing of photographs, CSV or Parquet with `id,uri`, of any length: read a shard at a time."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from facecade.base.artifact import digest
from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.files import MAX_IMAGE_BYTES, TOO_LARGE
from facecade.base.place import Place, is_url, parent
from facecade.base.program import install
from facecade.base.storage import fetch, open_place, scheme_problem
from facecade.faces.csv_rows import named_columns
from facecade.faces.decode import DecodeError, ImageBytes
from facecade.faces.parquet_rows import MAX_CELL

COLUMNS = ["id", "uri"]
SUFFIXES = (".csv", ".parquet")

SHARD_ROWS = 10_000
"""Rows of a shard."""

BLOCK_BYTES = 1 << 20
"""Bytes of a CSV that are read at once; also the maximum of a row."""

BATCH_ROWS = 10_000
"""Rows of a Parquet file that are read at once."""

MAX_GROUP_BYTES = 1 << 30
"""Maximum size of a column in a row group of a Parquet file."""

NOT_FETCHED = "cannot be fetched"
"""How the reason begins where a store or a network refuses a photograph: it may be there at the next attempt."""


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of a listing. number: of the shard; first: the number of its first row, from 0; folder: of the listing."""

    number: int
    first: int
    ids: list[str]
    uris: list[str]
    folder: Place
    allow_http: bool = False

    @property
    def images(self) -> list[ListedImage]:
        """The photograph of each row."""
        return [ListedImage(uri, self.folder, self.allow_http) for uri in self.uris]


@dataclass(frozen=True)
class ListedImage:
    """A photograph of a listing. folder: of the listing, which paths are relative to and do not lead out of."""

    uri: str
    folder: Place
    allow_http: bool = False

    def fetch(self) -> Path | ImageBytes:
        """The file on this machine, or the bytes of a URL; raises DecodeError where it may not be read or cannot be."""
        name = excerpt(self.uri, 200)
        if not self.uri or "\0" in self.uri:
            raise DecodeError(name, "no path" if not self.uri else "a NUL in the path")
        if is_url(self.uri):
            if problem := scheme_problem(self.uri, self.allow_http):
                raise DecodeError(name, problem)
            return ImageBytes(name, self._bytes(self.uri))
        if _leads_out(self.uri):
            raise DecodeError(name, "the path leads out of the listing's folder")
        if isinstance(self.folder, Path):
            return self.folder / self.uri
        return ImageBytes(name, self._bytes(f"{self.folder}/{self.uri}"))

    def _bytes(self, url: str) -> bytes:
        try:
            return fetch(url, MAX_IMAGE_BYTES, self.allow_http)
        except FileNotFoundError:
            raise DecodeError(url, "no such file") from None
        except FacecadeError:
            raise  # a package is missing: no photograph can be read
        except Exception as error:  # each store raises its own
            reason = TOO_LARGE if str(error) == TOO_LARGE else f"{NOT_FETCHED} ({first_line(error)})"
            raise DecodeError(url, reason) from None


def _leads_out(path: str) -> bool:
    kinds = (PurePosixPath(path), PureWindowsPath(path))
    return any(each.anchor or ".." in each.parts for each in kinds)


class ListingTable:
    """A listing: its size is known, its rows are read in order, those of unwanted shards are passed over."""

    def __init__(self, place: Place, shard_rows: int = SHARD_ROWS, allow_http: bool = False) -> None:
        """
        Raises:
            FacecadeError: pyarrow is missing; not a listing, or it cannot be read.
        """
        self.place, self.shard_rows, self.allow_http = place, shard_rows, allow_http
        self._is_parquet = _suffix(place) == ".parquet"
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise FacecadeError(
                "shards are written in Parquet, for which a package is missing", install("parquet")
            ) from None
        with self._opened() as file:
            # A hash of all bytes would take minutes, in each of a thousand processes; `--merge` compares every row.
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(BLOCK_BYTES)
            file.seek(max(0, size - BLOCK_BYTES))
            self.identity = digest(
                [size, *(hashlib.sha256(each).hexdigest() for each in (start, file.read(BLOCK_BYTES)))]
            )
        self._columns = self._header()

    @cached_property
    def rows(self) -> int:
        """Number of rows; a CSV is read once for it."""
        if self._is_parquet:
            with self._parquet() as file:
                return int(file.metadata.num_rows)
        return sum(len(batch) for _, batch in self._csv_batches())

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.shard_rows)

    def read(self, wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Shard]:
        """The shards whose number is wanted, in order.

        Raises:
            FacecadeError: the listing cannot be read; an id is blank, or twice in a shard.
        """
        number, ids, uris = 0, list[str](), list[str]()
        for first, batch in self._batches(wanted):
            for start, stop in _cut(first, first + len(batch), self.shard_rows):
                number = start // self.shard_rows
                if wanted(number):
                    part = batch.slice(start - first, stop - start)
                    ids += self._texts(part, 0)
                    uris += self._texts(part, 1)
                if ids and stop % self.shard_rows == 0:
                    yield self._shard(number, ids, uris)
                    ids, uris = [], []
        if ids:
            yield self._shard(number, ids, uris)

    def _shard(self, number: int, ids: list[str], uris: list[str]) -> Shard:
        first, seen = number * self.shard_rows, set[str]()
        for row, name in enumerate(ids, first + 1):
            if not name or "\0" in name:
                raise FacecadeError(f"{self.place} row {row}: id is {excerpt(name)!r}", "give every row an id")
            if name in seen:
                raise FacecadeError(
                    f"{self.place} row {row}: id '{excerpt(name)}' is there twice", "give every row its own id"
                )
            seen.add(name)
        return Shard(number, first, ids, uris, parent(self.place), self.allow_http)

    def _batches(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Any]]:
        """Record batches of id and uri, each with the number of its first row."""
        return self._parquet_batches(wanted) if self._is_parquet else self._csv_batches()

    def _parquet_batches(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Any]]:
        first = 0
        with self._parquet(buffer_size=BLOCK_BYTES, pre_buffer=False) as file:
            texts = [name for name in self._columns if _is_text(file.schema_arrow.field(name).type)]
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                numbers = range(first // self.shard_rows, (first + rows - 1) // self.shard_rows + 1)
                if rows and any(map(wanted, numbers)):
                    self._require_small(file.metadata.row_group(group))
                    self._require_short(group, texts)
                    at = first
                    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=self._columns):
                        yield at, batch.select(self._columns)
                        at += len(batch)
                first += rows

    def _require_short(self, group: int, texts: list[str]) -> None:
        """Raises FacecadeError for a row group whose dictionary has a long text: a text that rows repeat is stored once, and would fill
        the memory when it is read. The first row brings the whole dictionary."""
        with self._parquet(read_dictionary=texts, buffer_size=BLOCK_BYTES, pre_buffer=False) as file:
            for batch in islice(file.iter_batches(1, row_groups=[group], columns=self._columns), 1):
                for index in range(len(self._columns)):
                    self._texts(batch.select(self._columns), index)

    def _require_small(self, group: Any) -> None:
        for index in range(group.num_columns):
            column = group.column(index)
            if column.path_in_schema in self._columns and column.total_uncompressed_size > MAX_GROUP_BYTES:
                raise FacecadeError(
                    f"{self.place}: a row group has {column.total_uncompressed_size:,} bytes of {column.path_in_schema}",
                    "write smaller row groups, about as many rows as a shard",
                )

    def _csv_batches(self) -> Iterator[tuple[int, Any]]:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        first = 0
        with self._opened() as file:
            reader = pa_csv.open_csv(
                file,
                pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pa_csv.ParseOptions(newlines_in_values=True),
                pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(self._columns, pa.string()),
                    include_columns=self._columns,
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield first, batch
                first += len(batch)

    def _texts(self, batch: Any, index: int) -> list[str]:
        """A column's values as text, blank where one is missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = batch.column(index)
        if pa.types.is_integer(column.type):
            return ["" if value is None else str(value) for value in column.to_pylist()]
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if not _is_text(texts.type):
            raise FacecadeError(f"{self.place}: column {COLUMNS[index]} holds {excerpt(texts.type)}", "write text")
        longest = pc.max(pc.binary_length(texts)).as_py() or 0
        if longest > MAX_CELL:  # a file that repeats one text stores it once
            raise FacecadeError(
                f"{self.place}: column {COLUMNS[index]} has a text of {longest:,} bytes", f"write at most {MAX_CELL:,}"
            )
        return [value or "" for value in column.to_pylist()]

    def _header(self) -> list[str]:
        """The names of the two columns as the file spells them."""
        header = self._parquet_header() if self._is_parquet else _csv_header(self.place, self.allow_http)
        known = named_columns(Path(str(self.place)), header, COLUMNS)
        return [header[known.index(column)] for column in COLUMNS]

    def _parquet_header(self) -> list[str]:
        with self._parquet() as file:
            return list(file.schema_arrow.names)

    @contextmanager
    def _parquet(self, **options: Any) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with self._opened() as file, pq.ParquetFile(file, **options) as table:
            yield table

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The file; errors of pyarrow and of stores name it."""
        import pyarrow as pa

        try:
            with open_place(self.place, self.allow_http) as file:
                yield file
        except FacecadeError:
            raise
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            kind = "Parquet" if self._is_parquet else "CSV in UTF-8, separated by commas"
            raise FacecadeError(
                f"{self.place} cannot be read as {kind}: {first_line(error)}", "save it again"
            ) from None


def is_listing(place: Place) -> bool:
    """Whether a file is a listing: a URL, or a table with the columns `id` and `uri`."""
    if isinstance(place, str):
        return True
    if _suffix(place) not in SUFFIXES or not place.is_file():
        return False
    try:
        header = _csv_header(place, False) if _suffix(place) == ".csv" else ListingTable(place)._columns
    except FacecadeError:
        return False
    return set(COLUMNS) <= {name.casefold() for name in header}


def _csv_header(place: Place, allow_http: bool) -> list[str]:
    with open_place(place, allow_http) as file:
        start = file.read(BLOCK_BYTES).decode("utf-8-sig", "replace")
    try:
        return next((row for row in csv.reader(start.splitlines()) if any(row)), [])
    except csv.Error:
        return []


def _suffix(place: Place) -> str:
    return PurePosixPath(str(place)).suffix.lower()


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _cut(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """A range of rows, cut where shards of `size` rows begin."""
    while start < stop:
        end = min(stop, (start // size + 1) * size)
        yield start, end
        start = end
