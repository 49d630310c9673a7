"""The tables of a benchmark's page, read back from its Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """heading: the nearest above it, without its marks. rows: a mapping from column to cell for each line."""

    heading: str
    rows: list[dict[str, str]]


def tables(text: str) -> list[Table]:
    """All tables of a page, in its order."""
    heading, found, head = "", [], None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        if head is None:
            head = cells
            found.append(Table(heading, []))
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            found[-1].rows.append(dict(zip(head, cells, strict=True)))
    return found


def barred(text: str) -> list[tuple[str, str, str, str]]:
    """What a page measured against a bar: heading, what, measured, bar."""
    return [
        (table.heading, row["ratio"], row["measured"], row["bar"])
        for table in tables(text)
        for row in table.rows
        if row.get("bar")
    ]


def commit_of(text: str) -> str:
    """The commit by which a page says that it was measured."""
    said = re.search(r"Commit: ([0-9a-f]+)", text)
    return said[1] if said else "unknown"
