"""Tables as spreadsheets of all languages write them; an error says what is wrong with the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from facecade.base.errors import FacecadeError
from facecade.faces import csv_rows
from facecade.faces.csv_rows import read_csv_rows

TEXT = "ID,Gender,path\n1,male,김민수\n\n2,female,b\n"
EXPECTED = [(2, {"id": "1", "gender": "male", "path": "김민수"}), (4, {"id": "2", "gender": "female", "path": "b"})]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_delimiters_and_headers(encoding: str, delimiter: str, line_end: str, tmp_path: Path) -> None:
    text = TEXT.replace(",", delimiter).replace("\n", line_end)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    rows = read_csv_rows(tmp_path / "a.csv", ["id", "gender", "path"])
    assert [(row.number, row.cells) for row in rows] == EXPECTED
    assert not any(row.problems for row in rows)


def test_a_comma_in_a_quoted_cell_of_another_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"id";"path"\n1;"a, b.jpg"\n')
    assert read_csv_rows(tmp_path / "a.csv", ["id", "path"])[0].cells == {"id": "1", "path": "a, b.jpg"}


def error(path: Path, data: bytes, columns: list[str]) -> FacecadeError:
    path.write_bytes(data)
    with pytest.raises(FacecadeError) as caught:
        read_csv_rows(path, columns)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "lacks the column"),
        (b"\xff\x00\xfeabc", "not text in UTF-8"),
        ("id,path\n1,Müller\n".encode("latin-1"), "not text in UTF-8"),
        ("id,path\n".encode("utf-16-le"), "not text in UTF-8"),
        (b"id\n1\n", r"lacks the column\(s\) path"),
        (b"id,path,ID\n1,a,2\n", r"column\(s\) id twice"),
        (b'id,path\n1,"' + b"a" * 200_000, "a quote|field larger"),
    ],
    ids=["empty", "binary", "latin-1", "UTF-16 without mark", "column", "twice", "quote"],
)
def test_what_is_not_such_a_table_is_named(data: bytes, message: str, tmp_path: Path) -> None:
    import re

    caught = error(tmp_path / "a.csv", data, ["id", "path"])
    assert re.search(message, f"{caught} {caught.hint}") and caught.hint


def test_an_endless_header_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    caught = error(tmp_path / "a.csv", b"x" * 100_000 + b"\n1\n", ["id"])
    assert len(f"{caught} {caught.hint}") < 600


def test_tables_are_regular_files_of_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(FacecadeError, match="not a regular file"):
        read_csv_rows(tmp_path / "pipe.csv", ["id"])
    monkeypatch.setattr(csv_rows, "MAX_TABLE_BYTES", 10)
    error(tmp_path / "large.csv", b"id,path\n" * 10, ["id"])
