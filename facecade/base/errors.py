"""Errors for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class FacecadeError(Exception):
    """An error that the user can fix: what is wrong and where, and a hint what to do next.

    The command line prints `str(error)` and the hint, without a traceback (except with `--debug`).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> FacecadeError:
    """An error for a name that is not in `choices`; its hint suggests the closest ones."""
    options = sorted(choices)
    matches = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(matches)}?" if matches else f"choose from: {', '.join(options)}"
    return FacecadeError(f"unknown {kind} '{name}'", hint)


def problems(source: object, lines: Sequence[str], hint: str = "", max_lines: int | None = None) -> FacecadeError:
    """One error that lists all problems of a file, or the first `max_lines` of them."""
    shown = (
        [*lines[:max_lines], f"and {len(lines) - max_lines} more"] if max_lines and len(lines) > max_lines else lines
    )
    return FacecadeError(f"{source} has {len(lines)} problem(s):\n  " + "\n  ".join(shown), hint)
