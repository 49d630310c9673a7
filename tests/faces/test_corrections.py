"""Corrections change what they name, say so, and refuse what they cannot mean."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.corrections import correct

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


def test_the_shipped_file_corrects_the_competitions_labels() -> None:
    corrected, taken, said = correct(table(), SHIPPED)
    by_id = corrected.groupby("id").first()
    assert by_id.loc["006359", "gender"] == "male" and by_id.loc["004348", "age"] == 60
    swapped = corrected[corrected["id"] == "000020"].set_index("path")["mask"].to_dict()
    assert swapped == {
        "000020_female_Asian_50/wear": "wear",
        "000020_female_Asian_50/incorrect": "normal",
        "000020_female_Asian_50/normal": "incorrect",
    }
    assert "006359: gender female → male" in said and "004418: nobody of that id here" in said
    assert len(said) == 15
    assert sorted(each["id"] for each in taken) == ["000020", "004348", "006359"], "of others there is nobody"


def test_an_id_that_two_people_share_is_refused_and_the_folder_accepted(tmp_path: Path) -> None:
    sheet = tmp_path / "c.csv"
    sheet.write_text("id,field,value\n003397,gender,female\n000020,colour,red\n004348,age,young\n")
    with pytest.raises(FacecadeError) as caught:
        correct(table(), sheet)
    said = str(caught.value)
    assert "row 2: id 003397 is shared by" in said and "row 4: age=young means nothing; age is years" in said
    assert "row 3: colour=red means nothing; a field is gender, age, mask" in said
    sheet.write_text("id,field,value\n003397_male_Asian_19,gender,female\n")
    corrected, *_ = correct(table(), sheet)
    assert set(corrected[corrected["id"] == "003397"]["gender"]) == {"female"}
    assert corrected["person"].nunique() == 5
