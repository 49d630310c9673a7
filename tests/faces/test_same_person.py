"""Ids that are one person are joined; answers that are missing, wrong or contradictory are refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.same_person import NOBODY, read_same_person
from facecade.faces.shared_images import SharedImages


def sheet(folder: Path, *rows: str, name: str = "pairs.csv", head: str = "person,other,same") -> Path:
    (folder / name).write_text("\n".join([head, *rows]) + "\n")
    return folder / name


def pair(person: str, other: str) -> SharedImages:
    return SharedImages(person, other, "1.jpg", "2.jpg", None, 1)


def test_joined_people_get_the_first_id(tmp_path: Path) -> None:
    given = read_same_person([sheet(tmp_path, "c,b,yes", "d,c,YES", "e,f,no")], ["a", "b", "b", "c", "d", "e", "f"])
    table = pd.DataFrame({"person": ["d", "a", "c", "b", "f"]})
    assert given.join(table)["person"].tolist() == ["b", "a", "b", "b", "f"]
    assert [row["same"] for row in given.rows] == ["yes", "YES", "no"]
    assert given.notes == ["same person: 'c' is 'b'", "same person: 'd' is 'b'"]
    assert NOBODY.join(table).equals(table)


def test_people_apart_are_decided_also_after_they_were_joined(tmp_path: Path) -> None:
    given = read_same_person([sheet(tmp_path, "a,b,yes", "c,b,no")], ["a", "b", "c", "d"])
    pairs = [pair("a", "c"), pair("c", "a"), pair("a", "d")]
    assert given.undecided(pairs) == [pairs[2]]


def test_answers_of_several_files_count_together(tmp_path: Path) -> None:
    sheets = [sheet(tmp_path, "a,b,no"), sheet(tmp_path, "c,d,no", name="more.csv", head="person,other,same")]
    given = read_same_person(sheets, ["a", "b", "c", "d"])
    assert given.undecided([pair("a", "b"), pair("c", "d")]) == []


def test_written_pairs_are_read_with_their_further_columns(tmp_path: Path) -> None:
    file = sheet(tmp_path, "a,b,yes,1.jpg,2.jpg,0", head="person,other,same,image,other_image,bits")
    assert read_same_person([file], ["a", "b"]).rows == [{"person": "a", "other": "b", "same": "yes"}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,b,"], "pairs.csv row 2: same is empty; look at the images and write yes or no"),
        (["a,b,maybe"], "row 2: same is 'maybe', expected yes or no"),
        (["a,b,yes", "b,c,yes", "c,a,no"], "row 4: the two are one person by other rows"),
        (["a,b,yes", "b,a,no"], "row 3: the two are one person by other rows"),
        (["a,b"], "row 2: 2 cells, but the header has 3"),
    ],
)
def test_wrong_answers_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(FacecadeError) as caught:
        read_same_person([sheet(tmp_path, *rows)], ["a", "b", "c"])
    assert message in str(caught.value)


def test_people_who_are_not_in_the_data_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = read_same_person([sheet(tmp_path, "a,z,yes")], ["a", "b"])
    assert given.rows == [] and given.id_of == {}
    assert "pairs.csv row 2: 'z' is nobody in the data" in capsys.readouterr().err
