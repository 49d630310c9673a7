"""CSV files written by users: every row with its line number and its problems."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facecade.base.errors import FacecadeError


@dataclass(frozen=True)
class Row:
    """One row: the line it ends on (the header is line 1), its cells as text by column, and its problems."""

    number: int
    cells: dict[str, str]
    problems: list[str] = field(default_factory=list)


def read_csv_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV; blank lines are skipped.

    A row with too few or too many cells is kept, and has a problem.

    Raises:
        FacecadeError: the file is missing or not text, or columns are missing.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise FacecadeError(f"{path} cannot be read as CSV: {error}") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    header = lines[0][1] if lines else []
    missing = [column for column in columns if column not in header]
    if missing:
        raise FacecadeError(f"{path} lacks the column(s) {', '.join(missing)}", f"it has {', '.join(header) or 'none'}")
    return [_row(number, cells, header) for number, cells in lines[1:]]


def _row(number: int, cells: list[str], header: list[str]) -> Row:
    problems = [] if len(cells) == len(header) else [f"{len(cells)} cells, but the header has {len(header)}"]
    return Row(number, dict(zip(header, [*cells, *[""] * len(header)], strict=False)), problems)
