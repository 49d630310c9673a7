"""Read the tables of a benchmark's page from its Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A Markdown table. heading: the nearest one above it, without `#`. rows: for each line a mapping from column to
    cell."""

    heading: str
    rows: list[dict[str, str]]


def tables(text: str) -> list[Table]:
    """All tables of a page, in order."""
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


def required_ratios(text: str) -> list[tuple[str, str, str, str]]:
    """The ratios of a page that have a required value: heading, ratio, measured, required."""
    return [
        (table.heading, row["ratio"], row["measured"], row["required"])
        for table in tables(text)
        for row in table.rows
        if row.get("required")
    ]


def commit_of(text: str) -> str:
    """The commit that a page was measured at, as it says."""
    found = re.search(r"Commit: ([0-9a-f]+)", text)
    return found[1] if found else "unknown"
