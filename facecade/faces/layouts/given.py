"""What every layout gives: a row for each image, as it is written, before anything is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facecade.base.files import is_file
from facecade.faces.problems import Problem

MISSING_FILE = "no file"


@dataclass(frozen=True)
class GivenRow:
    """An image, or a row that names none (`path` is empty), of which only the problems count.

    where: the row of a table, or the file. path: relative to the root, or absolute. labels: the text of `mask`, `gender` and
    `age`; empty is unknown. name: of the image in predictions. box: text of left, top, right and
    bottom, all blank where the face is to be detected. missing: why there is no file.
    """

    where: str
    path: str
    person: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    box: Sequence[str] = ("", "", "", "")
    problems: Sequence[Problem] = ()
    missing: Problem | None = None


@dataclass(frozen=True)
class Given:
    """A dataset in one layout.

    required: labels that must not be blank. problems: of files that are no rows. notes: what a user may not expect; label_notes: how
    labels were read. passed_over: number of files and folders that are not used, by reason.
    """

    root: Path
    layout: str
    rows: Sequence[GivenRow]
    required: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()
    label_notes: Sequence[str] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)


def missing_file(where: str, root: Path, path: str) -> Problem | None:
    """The problem of a row whose file does not exist; None if it does."""
    if path and is_file(root / path):
        return None
    return Problem(where, f"no file '{path}'", MISSING_FILE)
