"""Scores as text."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

PLAIN = str.maketrans({"·": "|", "–": "-", "…": "~", "×": "x"})
"""Letters that old terminals lack, and what stands for them."""


def terminal(text: str) -> str:
    """A text in letters that stdout can write."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return text.translate(PLAIN)
    return text


def interval(value: Mapping[str, float], digits: int = 4) -> str:
    """A score with its 95 % interval."""
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def difference(value: Mapping[str, float], digits: int = 4) -> str:
    """A difference with its sign and its 95 % interval."""
    return f"{value['value']:+.{digits}f} [{value['low']:+.{digits}f}, {value['high']:+.{digits}f}]"


def columns(
    rows: Sequence[Sequence[str]], head: Sequence[str], optional: Sequence[str] = (), width: int | None = None
) -> str:
    """Rows under a head in left-aligned columns. Where they do not fit, optional columns are left out, then cells are wrapped
    between words, and at last each row becomes lines of `name: value`.

    Args:
        optional: names of columns that may be left out, the least important last.
        width: letters in a line; by default those of the terminal, or any number where stdout is none.
    """
    width = width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize)
    shown = list(range(len(head)))
    for name in (*reversed(optional), None):
        table = [[row[column] for column in shown] for row in (head, *rows)]
        widths = _widths(table, width)
        if widths and (name is None or sum(widths) >= _natural(table)):
            break
        if name is not None:
            shown.remove(head.index(name))
    if not widths:
        return "\n\n".join(_lines(head, row, width) for row in rows)
    lines = [line for row in table[:1] for line in _wrapped(row, widths)]
    lines += ["  ".join("-" * size for size in widths)]
    return "\n".join([*lines, *(line for row in table[1:] for line in _wrapped(row, widths))])


def _natural(table: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in zip(*table, strict=True))


def _widths(table: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of columns that fit without breaking words, the widest ones made narrower; none if nothing fits."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    least = [max(len(word) for cell in column for word in cell.split() or [""]) for column in zip(*table, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        if not any(spare):
            return []
        widths[max(range(len(widths)), key=lambda column: (spare[column] > 0, widths[column]))] -= 1
    return widths


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [_wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
    lines = zip_longest(*cells, fillvalue="")
    return ["  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines]


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _lines(head: Sequence[str], row: Sequence[str], width: int) -> str:
    named = [f"{name.strip()}: {cell}" if name.strip() else cell for name, cell in zip(head, row, strict=True) if cell]
    return "\n".join(line for text in named for line in _wrap(text, width, "  "))


def sentences(text: str, width: int | None = None) -> str:
    """A text with its lines broken between words, where stdout is a terminal.

    Args:
        width: letters in a line; by default those of the terminal, or any number where stdout is none.
    """
    width = width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize)
    return "\n".join(line for paragraph in text.splitlines() for line in _wrap(paragraph, width, "  "))
