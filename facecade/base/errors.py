"""Errors that speak to the person who meets them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class FacecadeError(Exception):
    """Something the user can mend: what is wrong and where, then what to do next.

    The command line prints `str(error)` and the hint, never a traceback (unless `--debug`).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> FacecadeError:
    """An error for a name that is not among `choices`, suggesting the nearest ones."""
    options = sorted(choices)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from: {', '.join(options)}"
    return FacecadeError(f"unknown {kind} '{name}'", hint)


def problems(source: object, lines: Sequence[str], hint: str = "", most: int | None = None) -> FacecadeError:
    """Everything wrong with a file in one error; `most`: lines shown, where there may be thousands."""
    shown = [*lines[:most], f"and {len(lines) - most} more"] if most and len(lines) > most else lines
    return FacecadeError(f"{source} has {len(lines)} problem(s):\n  " + "\n  ".join(shown), hint)
