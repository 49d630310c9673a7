"""A manifest: a table with `path,person,mask,gender,age`, whose paths are relative to its folder, or absolute."""

from __future__ import annotations

from pathlib import Path

from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.label_text import LABELS
from facecade.faces.layouts.given import Given, GivenRow, missing_file
from facecade.faces.problems import Problem

COLUMNS = ["path", "person", *LABELS]


def manifest(sheet: Path) -> Given:
    """The rows of a table; a blank label is unknown."""
    rows = []
    for line in read_csv_rows(sheet, COLUMNS):
        cells, where = line.cells, f"{sheet.name} row {line.number}"
        problems = [Problem(where, message) for message in line.problems]
        missing = missing_file(where, sheet.parent, cells["path"])
        labels = {name: cells[name] for name in LABELS}
        rows.append(GivenRow(where, cells["path"], cells["person"], labels, "", problems, missing))
    return Given(sheet.parent, "manifest", rows)
