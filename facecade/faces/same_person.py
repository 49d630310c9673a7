"""Which ids are one person, from a small CSV: `person,other,same`, where `same` is yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facecade.base.errors import excerpt, problems
from facecade.base.progress import note
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.shared_images import SharedImages

COLUMNS = ["person", "other", "same"]


@dataclass(frozen=True)
class SamePerson:
    """Which ids are one person.

    rows: `person, other, same` as given, of people in the data. id_of: id → the one id of the person; people who are not
    in it keep theirs. apart: pairs of these ids, of people who only look alike.
    """

    rows: Sequence[Mapping[str, str]] = ()
    id_of: Mapping[str, str] = field(default_factory=dict)
    apart: frozenset[frozenset[str]] = frozenset()

    def join(self, table: pd.DataFrame) -> pd.DataFrame:
        """A sample table with one id for each person."""
        return table.assign(person=[self.id_of.get(person, person) for person in table["person"]])

    @property
    def notes(self) -> list[str]:
        """A line for each id that is joined."""
        return [f"same person: '{excerpt(other)}' is '{excerpt(person)}'" for other, person in self.id_of.items()]

    def undecided(self, shared: Sequence[SharedImages]) -> list[SharedImages]:
        """The pairs of people, of a joined table, that are not said to be apart."""
        return [each for each in shared if frozenset((each.person, each.other)) not in self.apart]


NOBODY = SamePerson()
"""Every id is a person of its own."""


def read_same_person(sheets: Sequence[Path], people: Sequence[str]) -> SamePerson:
    """Read CSVs. Joined people get the id that comes first in `people`; rows that name nobody in it are noted and skipped.

    Raises:
        FacecadeError: `same` is neither yes nor no, or rows contradict each other; lists all such rows.
    """
    names = list(dict.fromkeys(people))
    known = set(names)
    rows: list[tuple[str, dict[str, str]]] = []
    errors: list[str] = []
    for sheet in sheets:
        for row in read_csv_rows(sheet, COLUMNS):
            where, cells = f"{sheet.name} row {row.number}", {name: row.cells[name] for name in COLUMNS}
            wrong = [*row.problems, *_wrong_answer(cells["same"])]
            strangers = [name for name in _pair(cells) if name not in known]
            errors += [f"{where}: {problem}" for problem in wrong]
            if strangers:
                note(f"{where}: '{excerpt(strangers[0])}' is nobody in the data")
            elif not wrong:
                rows.append((where, cells))
    id_of = _ids([_pair(cells) for _, cells in rows if _is_same(cells)], names)
    apart = []
    for where, cells in rows:
        if not _is_same(cells):
            apart.append(frozenset(id_of.get(name, name) for name in _pair(cells)))
            errors += [f"{where}: the two are one person by other rows"] if len(apart[-1]) == 1 else []
    if errors:
        raise problems(", ".join(sheet.name for sheet in sheets), errors, max_lines=20)
    return SamePerson([cells for _, cells in rows], id_of, frozenset(apart))


def _wrong_answer(text: str) -> list[str]:
    if not text:
        return ["same is empty; look at the images and write yes or no"]
    return [] if text.lower() in ("yes", "no") else [f"same is '{excerpt(text)}', expected yes or no"]


def _is_same(cells: Mapping[str, str]) -> bool:
    return cells["same"].lower() == "yes"


def _pair(cells: Mapping[str, str]) -> tuple[str, str]:
    return cells["person"], cells["other"]


def _ids(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """The one id of each person who has several: the first of `names` that pairs lead to."""
    if not pairs:
        return {}
    index = {name: number for number, name in enumerate(names)}
    ends = np.array([[index[name] for name in pair] for pair in pairs], np.int64).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(names), len(names)))
    number = pd.Series(np.arange(len(names)))
    first = number.groupby(connected_components(graph, directed=False)[1]).transform("min")
    return {names[each]: names[one] for each, one in zip(number, first, strict=True) if each != one}
