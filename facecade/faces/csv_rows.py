"""A CSV that a person wrote: every row with its line, and what is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facecade.base.errors import FacecadeError


@dataclass(frozen=True)
class Row:
    """One row: the line it ends on (the head is line 1), its cells as text by column, and what is wrong with it."""

    number: int
    cells: dict[str, str]
    wrong: list[str] = field(default_factory=list)


def read_csv_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV; blank lines are passed over.

    A row with too few or too many cells is there, with what it has, and says so.

    Raises:
        FacecadeError: no such file, no text, or columns missing.
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
    head = lines[0][1] if lines else []
    missing = [column for column in columns if column not in head]
    if missing:
        raise FacecadeError(f"{path} lacks the column(s) {', '.join(missing)}", f"it has {', '.join(head) or 'none'}")
    return [_row(number, cells, head) for number, cells in lines[1:]]


def _row(number: int, cells: list[str], head: list[str]) -> Row:
    wrong = [] if len(cells) == len(head) else [f"{len(cells)} cells, where the head has {len(head)}"]
    return Row(number, dict(zip(head, [*cells, *[""] * len(head)], strict=False)), wrong)
