"""Files are written whole or not at all, and what went wrong is said in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facecade.base.arrays import write_arrays
from facecade.base.artifact import write_atomic, write_bytes, write_csv, write_json, writing
from facecade.base.errors import FacecadeError, file_error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_keeps_what_was_there(code: int, tmp_path: Path) -> None:
    def fill(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(code, os.strerror(code))

    path = tmp_path / "record.json"
    path.write_text("whole")
    with pytest.raises(FacecadeError, match="cannot be written") as error:
        write_atomic(path, fill)
    assert str(path) in str(error.value) and os.strerror(code) in str(error.value) and "free" in error.value.hint
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_every_writer_names_a_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file/below"
    for write in (
        lambda: write_bytes(path, b"1"),
        lambda: write_csv(path, pd.DataFrame({"a": [1]})),
        lambda: write_json(path, {"a": 1}),
        lambda: write_arrays(path, {"a": np.zeros(1)}),
    ):
        with pytest.raises(FacecadeError, match="file/below cannot be written: a part of the path is a file"):
            write()


def test_an_error_without_a_number_is_named_too(tmp_path: Path) -> None:
    """NumPy's own, when it wrote less than it wanted; and a list of files as long as a folder."""
    message = r"folder cannot be written: 100 requested and 12 written$"
    with pytest.raises(FacecadeError, match=message), writing(Path("folder")):
        raise OSError("100 requested and 12 written")
    assert len(str(file_error("folder", OSError("x" * 9999)))) < 200


def test_a_forbidden_folder_is_advised_otherwise_than_a_full_one() -> None:
    hints = {file_error("a", OSError(code, "")).hint for code in (errno.ENOSPC, errno.EACCES, errno.ENOTDIR)}
    assert len(hints) == 3 and all(hints)


def test_a_name_of_the_greatest_length_is_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 250}.json"
    write_json(path, {"a": 1})
    assert list(tmp_path.iterdir()) == [path]
