"""All layouts are read; one error lists every bad row with its number."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facecade.base.artifact import write_csv
from facecade.base.errors import FacecadeError
from facecade.faces.layouts.competition import FILE_MASKS
from facecade.faces.source import read_source, require_files, require_no_problems
from facecade.faces.table import age_cap, classes, read_saved_table


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "grey").save(path, format="PNG" if path.suffix.lower() == ".png" else "JPEG")


def person(root: Path, folder: str, suffix: str = ".jpg", leave_out: str = "") -> None:
    for state in FILE_MASKS:
        if state != leave_out:
            image(root / "images" / folder / f"{state}{suffix}")


def competition(root: Path, rows: list[str]) -> Path:
    root.mkdir(exist_ok=True)
    (root / "train.csv").write_text("id,gender,race,age,path\n" + "\n".join(rows) + "\n")
    return root


def test_the_competition_layout_in_any_case_and_suffix(tmp_path: Path) -> None:
    root = competition(tmp_path, ["1,male,Asian,25,1_m", "2,female,Asian,60,2_f", "3,female,Asian,45,3_f"])
    person(root, "1_m", ".JPG")
    person(root, "2_f", ".jpeg")
    person(root, "3_f", ".png")
    (root / "images/1_m/._mask1.jpg").write_bytes(b"a hidden file of macOS")
    table = require_no_problems(read_source(root))
    assert len(table) == 21
    assert sorted(classes(table)[table["person"] == "2_f"]) == [5] * 5 + [11, 17]
    assert table["path"].str.contains(r"\._").sum() == 0


def test_one_error_lists_every_bad_row(tmp_path: Path) -> None:
    root = competition(
        tmp_path,
        [
            "1,male,Asian,25,1_m",
            "2,man,Asian,25,1_m",
            "3,female,Asian,old,3_f",
            "4,female,Asian,30,4_f",
            "5,male,Asian,50,5_m",
        ],
    )
    person(root, "1_m")
    person(root, "3_f")
    person(root, "5_m", leave_out="mask4")
    image(root / "images/5_m/mask9.jpg")
    image(root / "images/5_m/normal.png")
    with pytest.raises(FacecadeError) as caught:
        require_no_problems(read_source(root))
    message = str(caught.value)
    for line in (
        "train.csv row 3: gender is 'man'",
        "train.csv row 3: path '1_m' is already in row 2",
        "train.csv row 4: age is 'old'",
        "train.csv row 5: no folder images/4_f",
        "row 6: images/5_m lacks mask4",
        "images/5_m/mask9.jpg: unknown file name",
        "normal.png: a second normal",
    ):
        assert line in message
    assert "7 problem(s)" in message


def test_a_path_outside_the_dataset_is_rejected(tmp_path: Path) -> None:
    person(tmp_path, "inside")
    root = competition(tmp_path / "data", ["1,male,Asian,25,../../images/inside"])
    assert [problem.where for problem in read_source(root).problems] == ["train.csv row 2"]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id,sex\n1,male\n")
    with pytest.raises(FacecadeError, match=r"lacks the column\(s\) gender, age, path"):
        read_source(tmp_path)


def test_info_keeps_every_row_in_order(tmp_path: Path) -> None:
    image(tmp_path / "images/b.jpg")
    image(tmp_path / "images/a.jpg")
    (tmp_path / "info.csv").write_text("ImageID,ans\nb.jpg,0\ngone.jpg,0\na.jpg,0\nb.jpg,0\n")
    source = read_source(tmp_path)
    assert source.table["id"].tolist() == ["b.jpg", "gone.jpg", "a.jpg", "b.jpg"]
    assert [str(problem) for problem in source.problems] == [
        "info.csv row 3: no file images/gone.jpg",
        "info.csv row 5: ImageID 'b.jpg' is already in row 2",
    ]


def test_names_of_info_are_found_in_another_spelling(tmp_path: Path) -> None:
    image(tmp_path / "images" / unicodedata.normalize("NFD", "김é.jpg"))
    image(tmp_path / "images/b.JPG")
    (tmp_path / "info.csv").write_text("ImageID,ans\n김é.jpg,0\nb,0\n", encoding="utf-8")
    source = read_source(tmp_path)
    assert source.image_ids == ["김é.jpg", "b"] and not source.problems
    assert all((tmp_path / path).is_file() for path in source.table["path"])
    assert source.notes == ["2 name(s) of info.csv found in another spelling"]


@pytest.mark.parametrize("name", ["../train/a.jpg", "/etc/hostname", "images/../../train/a.jpg"])
def test_names_of_info_stay_inside_the_dataset(name: str, tmp_path: Path) -> None:
    image(tmp_path / "train/a.jpg")
    (tmp_path / "eval/images").mkdir(parents=True)
    (tmp_path / "eval/info.csv").write_text(f"ImageID,ans\n{name},0\n")
    assert len(read_source(tmp_path / "eval").missing) == 1


def test_people_s_folders_of_a_mac_and_folders_that_are_not_named(tmp_path: Path) -> None:
    root = competition(tmp_path, ["1,male,Asian,25,1_김", "2,male,Asian,25,1_김"])
    person(root, unicodedata.normalize("NFD", "1_김"))
    person(root, "2_f")
    (root / "images/notes.txt").touch()
    source = read_source(root)
    assert len(source.table) == 7 and set(source.table["person"]) == {"1_김"}
    assert [str(problem) for problem in source.problems] == ["train.csv row 3: path '1_김' is already in row 2"]
    assert source.notes == ["1 folder(s) in images/ that train.csv does not name: 2_f"]


@pytest.mark.parametrize(
    ("rows", "missing", "accepted"),
    [(400, 4, True), (400, 5, False), (10, 3, True), (10, 4, False), (3, 3, False), (1, 1, False)],
)
def test_a_few_files_may_be_missing(rows: int, missing: int, accepted: bool, tmp_path: Path) -> None:
    image(tmp_path / "images/a.jpg")
    names = ["a.jpg"] * (rows - missing) + ["gone.jpg"] * missing
    (tmp_path / "info.csv").write_text("\n".join(["ImageID", *names]))
    source = read_source(tmp_path)
    if accepted:
        require_files(source)
        return
    with pytest.raises(FacecadeError, match=f"{missing} of {rows} images do not exist") as caught:
        require_files(source)
    assert "info.csv row" in str(caught.value) and "--allow-missing" in caught.value.hint


def test_a_manifest(tmp_path: Path) -> None:
    image(tmp_path / "x/1.jpg")
    sheet = tmp_path / "mine.csv"
    sheet.write_text("path,person,mask,gender,age\nx/1.jpg,ann,normal,female,33\nx/2.jpg,,half,female,33\n")
    source = read_source(sheet)
    assert classes(source.table).tolist() == [16]
    assert {str(problem) for problem in source.problems} == {
        "mine.csv row 3: no person: all images of a person need the same name here",
        "mine.csv row 3: mask is 'half', expected wear, incorrect, normal",
        "mine.csv row 3: no file 'x/2.jpg'",
    }


def test_blank_labels_of_a_manifest_are_unknown(tmp_path: Path) -> None:
    sheet = tmp_path / "mine.csv"
    rows = ["ann,normal,,", "ann,,female,33", "bob,,,61.5", "cem,wear,male,"]
    for number in range(len(rows)):
        image(tmp_path / f"{number}.jpg")
    lines = [f"{number}.jpg,{row}" for number, row in enumerate(rows)]
    sheet.write_text("\n".join(["path,person,mask,gender,age", *lines]))
    source = read_source(sheet)
    assert not source.problems and source.labelled and (classes(source.table) == -1).all()
    assert source.table["mask"].tolist() == ["normal", "", "", "wear"]
    assert source.table["gender"].tolist() == ["", "female", "", "male"]
    assert source.table["age"].fillna(0).tolist() == [0, 33, 61.5, 0]
    assert source.table["where"][2] == "mine.csv row 4"


def test_a_blank_label_of_the_competition_is_a_problem(tmp_path: Path) -> None:
    root = competition(tmp_path, ["1,,Asian,25,1_m", "2,male,Asian,,2_m"])
    person(root, "1_m")
    person(root, "2_m")
    assert [str(problem) for problem in read_source(root).problems] == [
        "train.csv row 2: gender is '', expected male or female",
        "train.csv row 3: age is '', expected years between 1 and 120, or a band: <30, 30-59, >=60",
    ]


@pytest.mark.parametrize("age", ["5_8", "٥٨", "５８", "+58", "5e1", "58.", " ", "inf", "nan", "0", "121", "9" * 5000])
def test_an_age_is_written_in_ascii_digits(tmp_path: Path, age: str) -> None:
    image(tmp_path / "1.jpg")
    image(tmp_path / "2.jpg")
    sheet = tmp_path / "mine.csv"
    sheet.write_text(f"path,person,mask,gender,age\n1.jpg,ann,normal,female,{age}\n2.jpg,bob,normal,male,58.0\n")
    source = read_source(sheet)
    if not age.strip():  # blank: unknown
        assert not source.problems and np.isnan(source.table["age"][0])
        return
    (problem,) = source.problems
    assert problem.where == "mine.csv row 2" and problem.message.startswith(f"age is '{age[:80]}")
    assert len(problem.message) < 200
    assert source.table["age"].tolist() == [58.0]


def test_two_genders_of_a_person_are_a_problem_of_the_rows(tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / f"{number}.jpg")
    sheet = tmp_path / "mine.csv"
    rows = ["ann,normal,,30", "ann,normal,female,30", "bob,normal,male,30", "ann,normal,male,30"]
    lines = [f"{number}.jpg,{row}" for number, row in enumerate(rows)]
    sheet.write_text("\n".join(["path,person,mask,gender,age", *lines]))
    source = read_source(sheet)
    assert [str(problem) for problem in source.problems] == [
        "mine.csv row 5: person 'ann' is male here, and female in mine.csv row 3"
    ]
    assert source.table["path"].tolist() == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_folder_of_images(tmp_path: Path) -> None:
    image(tmp_path / "b/2.png")
    image(tmp_path / "1.JPG")
    (tmp_path / "notes.txt").write_text("not an image")
    source = read_source(tmp_path)
    assert source.table["id"].tolist() == ["1.JPG", "b/2.png"] and not source.labelled
    assert (classes(source.table) == -1).all()
    assert read_source(tmp_path / "1.JPG").table["id"].tolist() == ["1.JPG"]


def test_a_parent_folder_suggests_the_subfolder(tmp_path: Path) -> None:
    competition(tmp_path / "train", [])
    with pytest.raises(FacecadeError) as caught:
        read_source(tmp_path)
    assert caught.value.hint == f"did you mean {tmp_path / 'train'}?"


def test_age_cap_detects_only_censored_ages() -> None:
    generator = np.random.default_rng(0)
    real = generator.integers(18, 81, 1500).astype(float)
    assert age_cap(real) is None
    assert age_cap(np.minimum(real, 60)) == 60
    assert age_cap(np.array([])) is None


def test_ragged_and_blank_lines_keep_line_numbers(tmp_path: Path) -> None:
    image(tmp_path / "images/a.jpg")
    image(tmp_path / "images/b.jpg")
    (tmp_path / "info.csv").write_text("ImageID,ans\na.jpg,0,\n\nb.jpg,0\ngone.jpg\n")
    source = read_source(tmp_path)
    assert source.table["id"].tolist() == ["a.jpg", "b.jpg", "gone.jpg"], "every row is kept"
    assert [str(problem) for problem in source.problems] == [
        "info.csv row 2: 3 cells, but the header has 2",
        "info.csv row 5: 1 cells, but the header has 2",
        "info.csv row 5: no file images/gone.jpg",
    ]


def test_a_manifest_without_labels_keeps_every_row(tmp_path: Path) -> None:
    image(tmp_path / "1.jpg")
    sheet = tmp_path / "mine.csv"
    sheet.write_text("path,person,mask,gender,age\ngone.jpg,,,,\n1.jpg,ann,,,\n")
    source = read_source(sheet)
    assert source.image_ids == ["gone.jpg", "1.jpg"] and not source.labelled
    assert [str(problem) for problem in source.problems] == ["mine.csv row 2: no file 'gone.jpg'"]


def test_saved_table_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    """Its hash is in run.json."""
    ages = np.r_[np.random.default_rng(0).uniform(0.1, 120, 2000), np.nan, 60.0]
    names = {"path": "a,b.jpg", "id": "007", "person": "NA", "mask": "wear", "gender": "", "content": "0" * 32}
    table = pd.DataFrame({**{name: [text] * len(ages) for name, text in names.items()}, "age": ages, "fold": 2})
    write_csv(tmp_path / "table.csv", table)
    pd.testing.assert_frame_equal(read_saved_table(tmp_path / "table.csv"), table, check_dtype=False, check_exact=True)


def test_a_folder_whose_path_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"\xb1\xe8"))
    image(folder / "a.jpg")
    with pytest.raises(FacecadeError, match=r"data\\udcb1\\udce8: the path is not UTF-8") as error:
        read_source(folder)
    assert error.value.hint
