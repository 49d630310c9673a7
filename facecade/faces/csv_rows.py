"""CSV files written by users and their programs: every row with its line number and its problems."""

from __future__ import annotations

import csv
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from facecade.base.errors import FacecadeError, excerpt
from facecade.base.files import read_bytes

MAX_TABLE_BYTES = 256 * 2**20
"""Maximum size of a table: about three million rows."""

DELIMITERS = ",;\t|"
"""Columns are separated by a comma, or as spreadsheets of other languages do it."""


@dataclass(frozen=True)
class Row:
    """One row: the line it ends on (the header is line 1), its cells as text by column, and its problems."""

    number: int
    cells: dict[str, str]
    problems: list[str] = field(default_factory=list)


def read_csv_rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a CSV; blank lines are skipped.

    The file may be UTF-8, UTF-16 with a byte order mark, or CP949 (Korean Windows); cells may be separated by comma, semicolon,
    tab or `|`. The case of the header does not matter. A row with too few or too many cells is kept, and has a problem.

    Args:
        columns: that must be there; their spelling is used in `Row.cells`.
        optional: that may be missing; their spelling is used too.

    Raises:
        FacecadeError: the file is missing, too large or not text, or columns are missing or there twice.
    """
    text = _text(path)
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    names = {name.casefold(): name for name in (*columns, *optional)}
    delimiter = max(DELIMITERS, key=lambda each: sum(name in names for name in _header(first_line, each)))
    try:
        reader = csv.reader(StringIO(text, newline=""), skipinitialspace=True, delimiter=delimiter)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise FacecadeError(f"{path} cannot be read as CSV: {error}", "look for a quote that is not closed") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    header = named_columns(path, lines[0][1] if lines else [], columns, optional)
    return [_row(number, cells, header) for number, cells in lines[1:]]


def named_columns(path: Path, header: Sequence[str], columns: Sequence[str], optional: Sequence[str] = ()) -> list[str]:
    """A table's header, with `columns` and `optional` as they are spelled here.

    Raises:
        FacecadeError: one of `columns` is missing, or one of either is there twice.
    """
    names = {name.casefold(): name for name in (*columns, *optional)}
    header = [names.get(name.casefold(), name) for name in header]
    missing = [column for column in columns if column not in header]
    if missing:
        found = excerpt(", ".join(header), 200) or "none"
        raise FacecadeError(f"{path} lacks the column(s) {', '.join(missing)}", f"it has {found}")
    twice = [column for column in (*columns, *optional) if header.count(column) > 1]
    if twice:
        raise FacecadeError(f"{path} has the column(s) {', '.join(twice)} twice", "remove or rename one")
    return header


def _text(path: Path) -> str:
    data = read_bytes(path, MAX_TABLE_BYTES)
    encodings = ["utf-16"] if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else ["utf-8-sig", "cp949"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise FacecadeError(
        f"{path} is not text in UTF-8, UTF-16 with a byte order mark, or CP949", "save it as “CSV UTF-8”"
    )


def _header(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').casefold() for cell in line.split(delimiter)]


def _row(number: int, cells: list[str], header: list[str]) -> Row:
    problems = [] if len(cells) == len(header) else [f"{len(cells)} cells, but the header has {len(header)}"]
    return Row(number, dict(zip(header, [*cells, *[""] * len(header)], strict=False)), problems)
