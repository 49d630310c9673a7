"""Corrections of wrong labels, from a small CSV: `id,field,value`.

`id` is a person's id or folder, or (in a manifest) an image's path. `field` is `gender`,
`age` or `mask`; `mask` with the value `swap` swaps a person's `normal` and `incorrect` files. The gender and the age of a
person who has several ids (`faces/same_person.py`) are corrected in all images, whichever id is given.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from facecade.base.errors import excerpt, problems
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.label_text import YEARS, is_label
from facecade.faces.labels import GENDERS, MASKS
from facecade.faces.same_person import NOBODY, SamePerson

_ALLOWED = {
    "gender": f"gender is {' or '.join(GENDERS)}",
    "age": "age is years, above 0 and up to 120",
    "mask": f"mask is {', '.join(MASKS)} or swap",
}
"""Allowed values of each field."""


def apply_corrections(
    table: pd.DataFrame, sheet: Path, people: SamePerson = NOBODY
) -> tuple[pd.DataFrame, list[dict[str, str]], list[str]]:
    """Apply a corrections CSV to a sample table.

    Args:
        people: ids that are one person, and are not joined in the table yet.

    Returns:
        The corrected table; the corrections that apply to it, as `id, field, value`; and one message for each row of
        the CSV: what it changed, that the table already has the value, or that the id is not in the table.

    Raises:
        FacecadeError: an invalid field or value, or an id that two people share; lists all of them with their row
            numbers.
    """
    table, one_id = table.copy(), people.join(table)["person"]
    messages: list[str] = []
    applied: list[dict[str, str]] = []
    errors: list[str] = []
    for row in read_csv_rows(sheet, ["id", "field", "value"]):
        name, field, value = row.cells["id"], row.cells["field"].lower(), row.cells["value"].lower()
        where = f"{sheet.name} row {row.number}"
        errors += [f"{where}: {problem}" for problem in row.problems]
        matches = (table["person"] == name) | (table["path"] == name)
        if not matches.any():
            matches = table["id"] == name
        if field != "mask" and not (table["path"] == name).any():
            matches = one_id.isin(one_id[matches])
        if one_id[matches].nunique() > 1:
            owners = ", ".join(sorted(table.loc[matches, "person"].unique()))
            errors.append(f"{where}: id {name} is shared by {owners}; give the folder name instead")
        elif not _is_valid(field, value):
            allowed = _ALLOWED.get(field, f"field is {', '.join(_ALLOWED)}")
            errors.append(f"{where}: {excerpt(field)}={excerpt(value)} is invalid; {allowed}")
        elif not matches.any():
            messages.append(f"{name}: no such id in the table")
        else:
            applied.append({"id": name, "field": field, "value": value})
            messages.append(f"{name}: {_change(table, matches, field, value)}")
    if errors:
        raise problems(sheet, errors)
    return table, applied, messages


def _change(table: pd.DataFrame, rows: pd.Series, field: str, value: str) -> str:
    """Set a value in some rows of a table; returns a message that says what changed."""
    if value == "swap":
        swapped = {"normal": "incorrect", "incorrect": "normal"}
        table.loc[rows, "mask"] = table.loc[rows, "mask"].replace(swapped)
        return "swapped normal and incorrect"
    new = float(value) if field == "age" else value
    old = sorted(table.loc[rows, field].unique())
    table.loc[rows, field] = new
    if field == "age":
        table.loc[rows, "middle"] = False
    known = [str(value) if value == value and value != "" else "unknown" for value in old]
    return f"{field} is already {new}" if old == [new] else f"{field} {', '.join(known)} → {new}"


def _is_valid(field: str, value: str) -> bool:
    if field == "age" and not YEARS.fullmatch(value):
        return False
    return (field, value) == ("mask", "swap") or (field in _ALLOWED and is_label(field, value))
