"""An npz is read back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facecade.base.arrays import Layout, read_arrays, write_arrays
from facecade.base.errors import FacecadeError
from facecade.base.files import bytes_hash

ARRAYS = {
    "rows": np.arange(3),
    "values": np.ones((3, 4), np.float32),
    "years": np.array([1.0, np.nan, 3.0]),
    "names": np.array(["a", "bc"]),
}
LAYOUT: Layout = {"rows": "i8 n", "values": "f4 n 4", "years": "f8? n", "names": "U m", "cuts?": "f8 2 2"}


def read(path: Path) -> dict[str, np.ndarray]:
    """Whatever is in the file, as if a record named it."""
    return read_arrays(path, bytes_hash(path.read_bytes()), LAYOUT, "fit-meta")


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    for more in ({}, {"cuts": np.zeros((2, 2))}):
        content = write_arrays(tmp_path / "a.npz", {**ARRAYS, **more})
        arrays = read_arrays(tmp_path / "a.npz", content, LAYOUT, "fit-meta")
        assert arrays.keys() == {*ARRAYS, *more}
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(arrays[name], array)
    write_arrays(tmp_path / "none.npz", {})
    assert read_arrays(tmp_path / "none.npz", bytes_hash((tmp_path / "none.npz").read_bytes()), {}, "x") == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rows": np.arange(4)}, "values is float32"),
        ({"rows": np.arange(3, dtype=np.int32)}, "rows is int32"),
        ({"rows": np.arange(3).astype(">i8")}, "rows is >i8"),
        ({"values": np.ones((3, 5), np.float32)}, "values is float32 \\(3, 5\\)"),
        ({"values": np.ones(12, np.float32)}, "values is float32 \\(12,\\)"),
        ({"values": np.full((3, 4), np.nan, np.float32)}, "values holds numbers that are not finite"),
        ({"names": np.array([1, 2])}, "names is int64"),
        ({"more": np.arange(3)}, "it has the arrays"),
        ({"rows": np.array([None, 1, 2])}, "another size than its header"),
    ],
)
def test_other_arrays_are_named(changed: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with open(tmp_path / "a.npz", "wb") as file:
        np.savez(file, **{**ARRAYS, **changed})  # type: ignore[arg-type]
    with pytest.raises(FacecadeError, match=words) as error:
        read(tmp_path / "a.npz")
    assert error.value.hint == "make it again: python cli.py fit-meta"


def packed(members: dict[str, bytes], **options: Any) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


class Dangerous:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x04K\x01.",
        packed({name: npy(array) for name, array in ARRAYS.items()}, compression=zipfile.ZIP_DEFLATED),
        packed({"rows.npy": np.array([Dangerous()]).dumps()}),
        packed({"rows.npy": npy(ARRAYS["rows"]).replace(b"(3,)", b"(9**9**9,)")}),
        packed({"rows.npy": npy(ARRAYS["rows"]).replace(b"(3,), }      ", b"(3000000000,), }")}),
        packed({"rows.npy": npy(ARRAYS["rows"]).replace(b"'<i8'", b"'|V0'")}),
        packed({"rows.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535}),
        packed({"rows.npy": b"\x93NUMPY\x03\x00" + bytes(20)}),
    ],
    ids=[
        "empty",
        "cut",
        "pickle",
        "compressed",
        "pickle inside",
        "bomb",
        "too large",
        "no size",
        "brackets",
        "version",
    ],
)
def test_no_other_file_is_read(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(FacecadeError, match="is damaged") as error:
        read(tmp_path / "a.npz")
    assert len(str(error.value)) < 600 and not (tmp_path / "unpickled").exists()


def test_object_array_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "a.npz", "wb") as file:
        np.savez(file, rows=np.array([Dangerous()], dtype=object))
    with pytest.raises(FacecadeError, match="is damaged"):
        read(tmp_path / "a.npz")
    assert not (tmp_path / "unpickled").exists()


def test_a_cut_or_flipped_file_is_damaged(tmp_path: Path) -> None:
    content = write_arrays(tmp_path / "a.npz", ARRAYS)
    data = (tmp_path / "a.npz").read_bytes()
    for changed in (data[: len(data) // 2], data[:-1], bytes([data[0] ^ 1]) + data[1:], b""):
        (tmp_path / "a.npz").write_bytes(changed)
        with pytest.raises(FacecadeError, match="was changed or is damaged"):
            read_arrays(tmp_path / "a.npz", content, LAYOUT, "fit-meta")
        with pytest.raises(FacecadeError, match="is damaged"):
            read(tmp_path / "a.npz")
