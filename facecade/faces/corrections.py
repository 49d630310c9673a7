"""Corrections of wrong labels, from a small CSV: `id,field,value`.

`id` is a person's id or folder, or (in a manifest) an image's path. `field` is `gender`,
`age` or `mask`; `mask` with the value `swap` exchanges a person's `normal` and `incorrect` files.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from facecade.base.errors import problems
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.labels import GENDERS, MASKS

MEANT = {
    "gender": f"gender is {' or '.join(GENDERS)}",
    "age": "age is years, above 0 and up to 120",
    "mask": f"mask is {', '.join(MASKS)} or swap",
}
"""What a value of each field may be."""


def correct(table: pd.DataFrame, sheet: Path) -> tuple[pd.DataFrame, list[dict[str, str]], list[str]]:
    """Apply a corrections CSV to a sample table.

    Returns:
        The corrected table; the corrections that are about somebody in it, as `id, field, value`; and one line in words for each
        of the sheet's: what it changed, or that the table already said so or has nobody of that id.

    Raises:
        FacecadeError: a field or value that means nothing, or an id that two people share; all
            of them at once, each with its row number.
    """
    table = table.copy()
    said: list[str] = []
    taken: list[dict[str, str]] = []
    wrong: list[str] = []
    for row in read_csv_rows(sheet, ["id", "field", "value"]):
        name, field, value = row.cells["id"], row.cells["field"].lower(), row.cells["value"].lower()
        where = f"{sheet.name} row {row.number}"
        wrong += [f"{where}: {what}" for what in row.wrong]
        hit = (table["person"] == name) | (table["path"] == name)
        if not hit.any():
            hit = table["id"] == name
        if table.loc[hit, "person"].nunique() > 1:
            people = ", ".join(sorted(table.loc[hit, "person"].unique()))
            wrong.append(f"{where}: id {name} is shared by {people}; give the folder's name instead")
        elif not _meaningful(field, value):
            meant = MEANT.get(field, f"a field is {', '.join(MEANT)}")
            wrong.append(f"{where}: {field}={value} means nothing; {meant}")
        elif not hit.any():
            said.append(f"{name}: nobody of that id here")
        else:
            taken.append({"id": name, "field": field, "value": value})
            said.append(f"{name}: {_change(table, hit, field, value)}")
    if wrong:
        raise problems(sheet, wrong)
    return table, taken, said


def _change(table: pd.DataFrame, rows: pd.Series, field: str, value: str) -> str:
    """Put a value into some rows of a table; what that changed, in words."""
    if value == "swap":
        exchange = {"normal": "incorrect", "incorrect": "normal"}
        table.loc[rows, "mask"] = table.loc[rows, "mask"].replace(exchange)
        return "exchanged normal and incorrect"
    new = float(value) if field == "age" else value
    old = sorted(table.loc[rows, field].unique())
    table.loc[rows, field] = new
    return f"{field} is {new} already" if old == [new] else f"{field} {', '.join(map(str, old))} → {new}"


def _meaningful(field: str, value: str) -> bool:
    if field == "age":
        return value.replace(".", "", 1).isdigit() and 0 < float(value) <= 120
    return value in {"gender": GENDERS, "mask": (*MASKS, "swap")}.get(field, ())
