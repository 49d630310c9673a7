"""A manifest in Parquet is read as one in CSV, within bounds."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import scenes

from facecade.base.errors import FacecadeError
from facecade.faces import parquet_rows
from facecade.faces.source import read_source


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A manifest of twelve people with boxes, as Parquet and CSV."""
    pytest.importorskip("pyarrow")
    table = pd.read_csv(scenes(tmp_path, 12) / "manifest.csv").rename(columns={"gender": "Gender"})
    table["age"] = table["age"].astype(float).mask(table.index % 5 == 0)
    table["mask"] = table["mask"].astype("category")
    table = table.assign(left=1, top=2.5, right=90, bottom=100, other=[[1]] * len(table))
    table.to_parquet(tmp_path / "mine.parquet", row_group_size=10)
    table.drop(columns="other").to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.parquet"


def test_parquet_and_csv_are_the_same_manifest(written: Path) -> None:
    source, csv = read_source(written), read_source(written.with_suffix(".csv"))
    assert not source.problems and len(source.table) == 36
    pd.testing.assert_frame_equal(source.table.drop(columns="where"), csv.table.drop(columns="where"))
    assert source.table["where"][10] == "mine.parquet row 11"


def test_columns_of_other_types_and_missing_ones_are_named(written: Path) -> None:
    table = pd.read_parquet(written)
    table.assign(age=[[1]] * len(table)).to_parquet(written)
    with pytest.raises(FacecadeError, match="column age holds neither text nor numbers"):
        read_source(written)
    table.assign(age=True).to_parquet(written)
    with pytest.raises(FacecadeError, match="column age holds bool, neither text nor numbers"):
        read_source(written)
    table.drop(columns="person").to_parquet(written)
    with pytest.raises(FacecadeError, match=r"lacks the column\(s\) person"):
        read_source(written)


def test_sizes_are_bounded(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a text that a column repeats, and so stores once."""
    table = pd.read_parquet(written)
    table.assign(person="a" * 100_000).to_parquet(written)
    with pytest.raises(FacecadeError, match="column person has a text of 100,000 bytes"):
        read_source(written)
    monkeypatch.setattr(parquet_rows, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(FacecadeError, match="bytes in its columns, more than the allowed 1,000"):
        read_source(written)
    monkeypatch.setattr(parquet_rows, "MAX_ROWS", 35)
    with pytest.raises(FacecadeError, match="has 36 rows, more than the allowed 35"):
        read_source(written)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"path,person\n", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(FacecadeError, match=r"a\.parquet cannot be read as Parquet"):
        read_source(tmp_path / "a.parquet")


def test_the_extra_is_named_where_pyarrow_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(FacecadeError, match="for which a package is missing") as caught:
        read_source(tmp_path / "a.parquet")
    assert "[parquet]" in caught.value.hint
