"""Corrections change the named rows, report each change, and reject invalid rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.corrections import apply_corrections

SHIPPED = Path(__file__).resolve().parents[2] / "recipes/corrections/competition.csv"


def table() -> pd.DataFrame:
    rows = [
        ("006359", "006359_female_Asian_18", "female", 18.0),
        ("000020", "000020_female_Asian_50", "female", 50.0),
        ("004348", "004348_male_Asian_20", "male", 20.0),
        ("003397", "003397_male_Asian_19", "male", 19.0),
        ("003397", "003397_female_Asian_60", "female", 60.0),
    ]
    return pd.DataFrame(
        [
            {"path": f"{person}/{mask}", "id": name, "person": person, "mask": mask, "gender": gender, "age": age}
            for name, person, gender, age in rows
            for mask in ("wear", "incorrect", "normal")
        ]
    )


def test_the_shipped_file_corrects_the_competition_labels() -> None:
    corrected, applied, messages = apply_corrections(table(), SHIPPED)
    by_id = corrected.groupby("id").first()
    assert by_id.loc["006359", "gender"] == "male" and by_id.loc["004348", "age"] == 60
    swapped = corrected[corrected["id"] == "000020"].set_index("path")["mask"].to_dict()
    assert swapped == {
        "000020_female_Asian_50/wear": "wear",
        "000020_female_Asian_50/incorrect": "normal",
        "000020_female_Asian_50/normal": "incorrect",
    }
    assert "006359: gender female → male" in messages and "004418: no such id in the table" in messages
    assert len(messages) == 15
    assert sorted(correction["id"] for correction in applied) == ["000020", "004348", "006359"], (
        "the other ids are absent"
    )


@pytest.mark.parametrize("age", ["٢٠", "2²", "2_0", "1.2.3"])
def test_an_age_is_written_in_ascii_digits(tmp_path: Path, age: str) -> None:
    sheet = tmp_path / "c.csv"
    sheet.write_text(f"id,field,value\n000020,age,{age}\n")
    with pytest.raises(FacecadeError, match="age is years, above 0 and up to 120"):
        apply_corrections(table(), sheet)


def test_unknown_labels_are_corrected(tmp_path: Path) -> None:
    sheet = tmp_path / "c.csv"
    sheet.write_text("id,field,value\n000020,age,44\n000020,gender,male\n")
    unknown = table()
    unknown.loc[unknown["id"] == "000020", ["gender", "age"]] = ["", float("nan")]
    corrected, _, messages = apply_corrections(unknown, sheet)
    assert messages == ["000020: age unknown → 44.0", "000020: gender unknown → male"]
    assert set(corrected["age"][corrected["id"] == "000020"]) == {44.0}


def test_an_id_of_two_people_is_rejected_and_the_folder_accepted(tmp_path: Path) -> None:
    sheet = tmp_path / "c.csv"
    sheet.write_text("id,field,value\n003397,gender,female\n000020,colour,red\n004348,age,young\n")
    with pytest.raises(FacecadeError) as caught:
        apply_corrections(table(), sheet)
    message = str(caught.value)
    assert "row 2: id 003397 is shared by" in message and "row 4: age=young is invalid; age is years" in message
    assert "row 3: colour=red is invalid; field is gender, age, mask" in message
    sheet.write_text("id,field,value\n003397_male_Asian_19,gender,female\n")
    corrected, *_ = apply_corrections(table(), sheet)
    assert set(corrected[corrected["id"] == "003397"]["gender"]) == {"female"}
    assert corrected["person"].nunique() == 5
