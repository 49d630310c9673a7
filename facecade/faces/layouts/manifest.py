"""A manifest: a table with `path,person,mask,gender,age` and, where faces are known, `left,top,right,bottom`. Paths are relative to
its folder, or absolute."""

from __future__ import annotations

from pathlib import Path

from facecade.faces.boxes import SIDES
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.label_text import LABELS
from facecade.faces.layouts.given import Given, GivenRow, missing_file
from facecade.faces.parquet_rows import read_parquet_rows
from facecade.faces.problems import Problem
from facecade.faces.reading import Reading

COLUMNS = ["path", "person", *LABELS]


def manifest(sheet: Path, _: Reading) -> Given:
    """The rows of a table in CSV or Parquet; a blank label is unknown."""
    read_rows = read_parquet_rows if sheet.suffix.lower() == ".parquet" else read_csv_rows
    rows = []
    for line in read_rows(sheet, COLUMNS, SIDES):
        cells, where = line.cells, f"{sheet.name} row {line.number}"
        problems = [Problem(where, message) for message in line.problems]
        missing = missing_file(where, sheet.parent, cells["path"])
        labels = {name: cells[name] for name in LABELS}
        box = [cells.get(side, "") for side in SIDES]
        rows.append(GivenRow(where, cells["path"], cells["person"], labels, "", box, problems, missing))
    return Given(sheet.parent, "manifest", rows)
