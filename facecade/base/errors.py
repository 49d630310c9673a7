"""Errors for the user."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class FacecadeError(Exception):
    """An error that the user can fix: what is wrong and where, and a hint what to do next.

    The command line prints `str(error)` and the hint, without a traceback (except with `--debug`). Both quote what
    strangers wrote: what a terminal would obey is shown as an escape.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(_escaped(message, keep="\n"))
        self.hint = _escaped(hint, keep="\n")


def _escaped(text: str, keep: str = "") -> str:
    """Text with an escape for each letter that is not printable."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in text)


def file_error(message: str, error: OSError) -> FacecadeError:
    """An error for a file or folder that the system refuses.

    Args:
        message: which, and what could not be done.
    """
    reason, hint = error.strerror or excerpt(error), "give another path"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space, then run the same command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "change its permissions, or give another path"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        reason = "a part of the path is a file"
    return FacecadeError(f"{message}: {reason}", hint)


def excerpt(value: object, length: int = 80) -> str:
    """The begin of a value's text, without control characters: messages do not repeat whole files."""
    text = str(value)
    shown = _escaped(text[:length])
    return shown if len(text) <= length else f"{shown}… ({len(text):,} characters)"


def first_line(error: BaseException) -> str:
    """What an error of a library says first, except in which of its files it is raised; its type where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    told = (line for line in lines if line and not line.startswith("Exception from "))
    return excerpt(next(told, type(error).__name__), 200)


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> FacecadeError:
    """An error for a name that is not in `choices`; its hint suggests the closest ones."""
    options, name = sorted(choices), excerpt(name)
    matches = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if matches:
        hint = f"did you mean {' or '.join(matches)}?"
    elif len(options) <= 20:
        hint = f"choose from: {', '.join(options)}"
    else:
        hint = f"the nearest names are {', '.join(difflib.get_close_matches(name, options, n=5, cutoff=0))}"
    return FacecadeError(f"unknown {kind} '{name}'", hint)


def problems(
    source: object, lines: Sequence[str], hint: str = "", max_lines: int | None = None, count: int | None = None
) -> FacecadeError:
    """One error that lists all problems of a file, or the first `max_lines` of them.

    Args:
        count: how many there are, if a line may stand for several.
    """
    shown = (
        [*lines[:max_lines], f"and {len(lines) - max_lines} more"] if max_lines and len(lines) > max_lines else lines
    )
    return FacecadeError(f"{source} has {count or len(lines)} problem(s):\n  " + "\n  ".join(shown), hint)
