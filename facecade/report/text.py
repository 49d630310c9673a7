"""Scores as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def interval(value: Mapping[str, float], digits: int = 4) -> str:
    """A score with its 95 % interval."""
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def difference(value: Mapping[str, float], digits: int = 4) -> str:
    """A difference with its sign and its 95 % interval."""
    return f"{value['value']:+.{digits}f} [{value['low']:+.{digits}f}, {value['high']:+.{digits}f}]"


def columns(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Rows under a head in left-aligned columns, for a terminal."""
    width = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width[column]) for column, cell in enumerate(row)).rstrip() for row in [head, *rows]]
    return "\n".join([lines[0], "  ".join("-" * size for size in width), *lines[1:]])
