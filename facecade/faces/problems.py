"""What is wrong with the rows and files of a dataset; many that are wrong in the same way are one line."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_GROUPS = 10
"""Kinds of problems that a message shows."""


@dataclass(frozen=True)
class Problem:
    """A problem of a row or a file: where it is, and a message.

    kind: what it shares with others of its group, if the message names more than that (a file, a person). map: what would
    settle it, as `--map` takes it.
    """

    where: str
    message: str
    kind: str = ""
    map: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def grouped(problems: Iterable[Problem], max_groups: int | None = MAX_GROUPS) -> list[str]:
    """A line for each kind of problem, in the order in which they first occur, and one that counts those not shown."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.kind or problem.message, []).append(problem)
    lines = [_line(kind, group) for kind, group in groups.items()]
    if max_groups is None or len(lines) <= max_groups:
        return lines
    more = sum(len(group) for group in list(groups.values())[max_groups:])
    return [*lines[:max_groups], f"and {more} more"]


def map_hint(problems: Iterable[Problem]) -> str:
    """The options that would settle problems of words, as typed; empty if none would."""
    maps = dict.fromkeys(problem.map for problem in problems if problem.map)
    return " ".join(f"--map {shlex.quote(each)}" for each in maps)


def _line(kind: str, group: Sequence[Problem]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    unit = "rows" if " row " in first.where else "times"
    return f"{kind}: {len(group)} {unit}, first {first.where if kind == first.message else first}"
