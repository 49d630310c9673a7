"""TOML of strangers: text → tables of plain values, of limited size and depth."""

from __future__ import annotations

import math
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.files import read_bytes

MAX_BYTES = 256 * 2**10
"""Maximum size of a file; a long recipe has five thousand bytes."""

MAX_DEPTH = 20
"""Maximum depth of tables and lists in each other."""

MAX_VALUES = 2000
"""Maximum number of values, tables and lists."""

MAX_TEXT = 10_000
"""Maximum number of characters of a text."""

MAX_DOTS = 100
"""Maximum number of dots in a line: tomllib's time and memory grow with the square of the parts of a dotted key."""


def read_toml_file(path: Path) -> dict[str, Any]:
    """The tables of a file; raises FacecadeError as `read_bytes` and `parse_toml` do."""
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8-sig")  # some editors begin with a byte order mark
    except UnicodeDecodeError as error:
        raise FacecadeError(f"{path} is not TOML: it is not UTF-8, {error.reason}", "save it as UTF-8") from None
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The tables of a text.

    Raises:
        FacecadeError: a syntax error, with its line; values that `unusable` names.
        TOMLSyntaxError: the first of them.
    """
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise FacecadeError(f"{source} has a line with more than {MAX_DOTS} dots", "write it in several lines")
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise FacecadeError(f"{source} nests its values more than {MAX_DEPTH} deep", "write fewer brackets") from None
    except tomllib.TOMLDecodeError as error:
        raise TOMLSyntaxError(f"{source} is not TOML: {first_line(error)}") from None
    except ValueError:  # of int()
        raise FacecadeError(f"{source} has a number of thousands of digits", "write a shorter one") from None
    for reason in unusable(tables):
        raise FacecadeError(f"{source}: {reason}", "write numbers, text, lists and tables")
    return tables


class TOMLSyntaxError(FacecadeError):
    """The text is not TOML."""


def unusable(tables: Mapping[str, Any]) -> Iterator[str]:
    """What no key takes: dates, control characters, numbers that are not finite or too long, too many or too deep values."""
    pending: deque[tuple[tuple[object, ...], Any]] = deque([((), tables)])
    for number in range(MAX_VALUES + 1):
        if not pending:
            return
        path, value = pending.popleft()
        if isinstance(value, Mapping | list | tuple):
            if len(path) > MAX_DEPTH:
                yield f"{where(path)}: nested more than {MAX_DEPTH} deep"
            elif len(value) > MAX_VALUES - number:
                break
            else:
                items = value.items() if isinstance(value, Mapping) else enumerate(value)
                pending.extend(((*path, key), item) for key, item in items)
        elif reason := _reason(value):
            yield f"{where(path)}: {reason}"
    yield f"it holds more than {MAX_VALUES:,} values"


def _reason(value: object) -> str:
    """Why no key takes a value; empty if one may."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            return f"a text of {len(value):,} characters"
        return "" if value.isprintable() else f"a text with control characters, {excerpt(value, 40)}"
    if isinstance(value, bool | None):
        return ""
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**63 else "a whole number of more than 64 bits"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is not a finite number"
    return f"a {type(value).__name__}"


def where(path: Sequence[object]) -> str:
    """A key with the tables around it, as in `stages.mask.epochs`."""
    return excerpt(".".join(excerpt(part, 40) for part in path), 60)
