"""Listings of any length, written by strangers: bounded memory, paths that stay inside, and errors that name the row."""

from __future__ import annotations

import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest

from facecade.base import storage
from facecade.base.errors import FacecadeError
from facecade.base.storage import open_folder
from facecade.faces import listing_table
from facecade.faces.decode import DecodeError, ImageBytes
from facecade.faces.listing_table import MAX_CELL, ListedImage, ListingTable, is_listing

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")


def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"x": 1, "uri": [f"a/{n}.jpg" for n in range(rows)], "id": [f"i{n}" for n in range(rows)]})


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> fsspec.AbstractFileSystem:
    """An object store in this process, `memory://`."""
    monkeypatch.setattr(storage, "STORES", storage.STORES | {"memory"})
    files = fsspec.filesystem("memory")
    files.store.clear()
    return files


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_shards_are_consecutive_rows_in_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list.{suffix}"
    if suffix == "csv":
        table(25).to_csv(path, index=False)
    else:
        table(25).to_parquet(path, row_group_size=7)  # shards begin inside of groups
    listing = ListingTable(path, shard_rows=10)
    assert is_listing(path) and listing.rows == 25 and listing.shards == 3
    shards = list(listing.read())
    assert [(each.number, each.first, len(each.ids)) for each in shards] == [(0, 0, 10), (1, 10, 10), (2, 20, 5)]
    assert [name for each in shards for name in each.ids] == [f"i{n}" for n in range(25)]
    assert shards[2].images[0].fetch() == tmp_path / "a/20.jpg"
    assert [each.ids[0] for each in listing.read({0, 2}.__contains__)] == ["i0", "i20"]


def test_a_listing_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups without a wanted shard are passed over, and the rest comes in batches, whatever the length."""
    import pyarrow.parquet as pq

    table(40_000).to_parquet(tmp_path / "list.parquet", row_group_size=10_000)
    read: list[list[int]] = []
    own = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, size: int, row_groups: list[int], columns: list[str]) -> object:
        read.append(row_groups)
        return own(self, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    monkeypatch.setattr(listing_table, "BATCH_ROWS", 1000)
    listing = ListingTable(tmp_path / "list.parquet", shard_rows=5000)
    assert listing.rows == 40_000 and read == []
    sizes = [len(batch) for _, batch in listing._batches({5}.__contains__)]
    assert read == [[2], [2]] and sizes == [1000] * 10, "once for its dictionary"
    table(40_000).to_csv(tmp_path / "list.csv", index=False)
    monkeypatch.setattr(listing_table, "BLOCK_BYTES", 1 << 16)
    blocks = [len(batch) for _, batch in ListingTable(tmp_path / "list.csv")._batches(lambda _: True)]
    assert sum(blocks) == 40_000 and max(blocks) < 5000
    shards = ListingTable(tmp_path / "list.csv", shard_rows=100).read()
    assert next(shards).ids[0] == "i0", "the first shard comes before the last row is read"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("id,uri\na,1.jpg\na,2.jpg\n", "row 2: id 'a' is there twice"),
        ("id,uri\n,1.jpg\n", "row 1: id is ''"),
        ("id,uri\na\0b,1.jpg\n", "row 1: id is"),
        ("id,uri\na\n", "Expected 2 columns, got 1"),
        ("id,uri\n" + "a" * (3 << 20) + ",1.jpg\n", "cannot be read as CSV"),
        ("id,uri\n" + "a" * (MAX_CELL + 1) + ",1.jpg\n", f"a text of {MAX_CELL + 1:,} bytes"),
        ("id,uri\n\udcff,1.jpg\n", "cannot be read as CSV in UTF-8"),
        ("id,path\na,1.jpg\n", "lacks the column(s) uri"),
        ("", "lacks the column(s) id, uri"),
    ],
)
def test_hostile_csv(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FacecadeError) as caught:
        list(ListingTable(tmp_path / "list.csv").read())
    assert error in str(caught.value) and len(str(caught.value)) < 500


def test_hostile_files(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(FacecadeError, match="cannot be read as Parquet"):
        ListingTable(tmp_path / "text.parquet")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(FacecadeError, match="not a regular file"):
        ListingTable(tmp_path / "pipe.csv")
    repeated = pa.array(["a" * 100_000] * 20_000).dictionary_encode()  # 2 GB of text in a few kilobytes
    bomb = pa.table({"id": pa.array(range(20_000)), "uri": repeated})
    for store_schema in (False, True):
        pq.write_table(bomb, tmp_path / "bomb.parquet", store_schema=store_schema)
        assert (tmp_path / "bomb.parquet").stat().st_size < 1 << 20
        before = pa.default_memory_pool().max_memory()
        with pytest.raises(FacecadeError, match="has a text of 100,000 bytes"):
            list(ListingTable(tmp_path / "bomb.parquet").read())
        assert pa.default_memory_pool().max_memory() - before < 64 << 20
    pq.write_table(pa.table({"id": ["a"], "uri": [[1]]}), tmp_path / "lists.parquet")
    with pytest.raises(FacecadeError, match="column"):
        list(ListingTable(tmp_path / "lists.parquet").read())


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("../../etc/passwd", "leads out"),
        ("/etc/passwd", "leads out"),
        ("C:\\secret.jpg", "leads out"),
        ("a/..\\..\\x.jpg", "leads out"),
        ("a\0.jpg", "a NUL in the path"),
        ("", "no path"),
        ("file:///etc/passwd", "file:// is not allowed"),
        ("memory://a.jpg", "memory:// is not allowed"),
        ("http://169.254.169.254/latest", "http:// is not allowed without --allow-http"),
        ("HTTPS://localhost/a.jpg", "https:// is not allowed without --allow-http"),
    ],
)
def test_a_listing_names_only_what_it_may(tmp_path: Path, uri: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        ListedImage(uri, tmp_path).fetch()
    assert reason in caught.value.reason and "\0" not in str(caught.value)
    assert not str(ListedImage("simplecache::file:///etc/passwd", tmp_path).fetch()).startswith("/etc"), (
        "no chain of fsspec"
    )


def test_urls_are_fetched_whole_and_bounded(memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/bucket/a.jpg", b"12345")
    assert ListedImage("memory://bucket/a.jpg", Path("elsewhere")).fetch() == ImageBytes(
        "memory://bucket/a.jpg", b"12345"
    )
    assert ListedImage("a.jpg", "memory://bucket").fetch() == ImageBytes("a.jpg", b"12345"), (
        "relative to the listing's URL"
    )
    with pytest.raises(DecodeError) as missing:
        ListedImage("memory://bucket/b.jpg", Path()).fetch()
    assert missing.value.reason == "no such file"
    monkeypatch.setattr(listing_table, "MAX_IMAGE_BYTES", 4)
    with pytest.raises(DecodeError, match="too large"):
        ListedImage("memory://bucket/a.jpg", Path()).fetch()

    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(memory, "cat_file", refuse)
    with pytest.raises(DecodeError) as refused:
        ListedImage("memory://bucket/a.jpg", Path()).fetch()
    assert refused.value.reason == "cannot be fetched (Access Denied)"


def test_a_missing_package_is_no_flag() -> None:
    """Else a listing of millions would be flags alone."""
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs")):
        try:
            __import__(package)
        except ImportError:
            with pytest.raises(FacecadeError) as caught:
                ListedImage(f"{scheme}://bucket/a.jpg", Path()).fetch()
            assert not isinstance(caught.value, DecodeError) and package in caught.value.hint + str(caught.value)


def test_folders_here_and_in_a_store_are_the_same(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    for place in (tmp_path / "new" / "folder", "memory://bucket/out"):
        folder = open_folder(place)
        assert folder.names() == set()
        folder.put("a.txt", lambda path: path.write_bytes(b"1"))
        folder.put("b.txt", lambda path: path.write_bytes(b"2"))

        def fail(path: Path) -> None:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            folder.put("c.txt", fail)
        assert folder.names() == {"a.txt", "b.txt"}
        folder.remove("a.txt")
        assert folder.names() == {"b.txt"}
    for url in ("file:///tmp/x", "http://host/x"):
        with pytest.raises(FacecadeError, match="is not allowed"):
            open_folder(url)


def test_http_is_fetched_only_if_allowed_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "a.jpg").write_bytes(b"12345")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))  # it ignores ranges
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        try:
            with pytest.raises(DecodeError, match="without --allow-http"):
                ListedImage(f"{base}/a.jpg", Path()).fetch()
            image = ListedImage(f"{base}/a.jpg", Path(), allow_http=True).fetch()
            assert isinstance(image, ImageBytes) and image.data == b"12345"
            with pytest.raises(DecodeError) as missing:
                ListedImage(f"{base}/b.jpg", Path(), allow_http=True).fetch()
            assert missing.value.reason == "no such file"
            monkeypatch.setattr(listing_table, "MAX_IMAGE_BYTES", 4)
            with pytest.raises(DecodeError, match="too large"):
                ListedImage(f"{base}/a.jpg", Path(), allow_http=True).fetch()
        finally:
            server.shutdown()
    with pytest.raises(DecodeError, match=r"no such file|cannot be fetched"):
        ListedImage(f"{base}/a.jpg", Path(), allow_http=True).fetch()
