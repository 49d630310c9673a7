"""Own images: what a folder for each class, a manifest in other words and unknown people become."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.faces.problems import Problem, grouped
from facecade.faces.reading import make_reading
from facecade.faces.source import read_source, require_no_problems
from facecade.faces.table import classes


def images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "grey").save(root / name)
    return root


def manifest(root: Path, *rows: str) -> Path:
    images(root, *(f"{number}.png" for number in range(len(rows))))
    lines = [f"{number}.png,{row}" for number, row in enumerate(rows)]
    (root / "manifest.csv").write_text("\n".join(["path,person,mask,gender,age", *lines]) + "\n")
    return root


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    data = images(tmp_path, "mask_female_30-59/a.png", "mask_female_30-59/deep/b.png", "no_mask_male_60+/a.png")
    source = read_source(data)
    assert source.layout == "class folders" and not source.problems and source.labelled
    assert classes(source.table).tolist() == [4, 4, 14]
    assert source.table["age"].tolist() == [45, 45, 60] and source.table["middle"].tolist() == [True, True, False]
    notes = "\n".join(source.label_notes)
    assert "folder 'mask_female_30-59': mask wear, gender female, age 30-59" in notes
    assert "no person is known: each image counts as a person of its own" in notes and source.table["person"].is_unique
    assert "1 file names occur in several folders" in notes and "--person-pattern" in notes
    assert "only a band is known of 3 images: 30-59 as 45 (2 images), 60+ as 60 (1 images)" in notes


def test_folders_may_say_one_label(tmp_path: Path) -> None:
    source = read_source(images(tmp_path, "mask/1.png", "no_mask/2.png"))
    assert source.table["mask"].tolist() == ["wear", "normal"] and source.table["age"].isna().all()
    assert source.table["gender"].tolist() == ["", ""]


def test_a_person_pattern_finds_people(tmp_path: Path) -> None:
    data = images(tmp_path, "mask/ann_1.png", "no_mask/ann_2.png", "mask/bob_1.png")
    source = read_source(data, make_reading(person_pattern="([a-z]+)_[0-9]"))
    assert source.table["person"].tolist() == ["ann", "bob", "ann"]
    assert not any("no person" in note for note in source.label_notes)
    wrong = read_source(data, make_reading(person_pattern="(ann)_"))
    assert [str(each) for each in wrong.problems] == [
        "mask/bob_1.png: --person-pattern finds no person in 'mask/bob_1.png'"
    ]


def test_folders_of_which_some_say_no_class_are_images_to_predict(tmp_path: Path) -> None:
    source = read_source(images(tmp_path, "mask/1.png", "holiday/2.png", "3.png"))
    assert source.layout == "images" and len(source.table) == 3 and not source.labelled
    assert "1 folder(s) say a class, as 'mask', and 2 do not" in source.notes[0] and "'holiday'" in source.notes[0]


def test_a_layout_says_what_folders_mean(tmp_path: Path) -> None:
    data = images(tmp_path / "data", "A/1.png", "B/2.png", "mask/3.png", "holiday/4.png")
    file = tmp_path / "classes.toml"
    file.write_text('[classes.A]\nmask = "normal"\nband = "30-59"\n[classes.B]\n[classes.C]\nmask = "wear"\n')
    source = read_source(data, make_reading(layout=file))
    assert source.table["path"].tolist() == ["A/1.png", "B/2.png", "mask/3.png"]
    assert source.table["mask"].tolist() == ["normal", "", "wear"]
    assert [each.where for each in source.problems] == ["holiday/", "C/"]
    assert "rename it, or name it in --layout FILE" in source.problems[0].message
    with pytest.raises(FacecadeError, match="has no folders of classes"):
        read_source(data / "A/1.png", make_reading(layout=file))


def test_a_band_of_two_bands_says_no_class(tmp_path: Path) -> None:
    source = read_source(images(tmp_path, "mask_20-40/1.png", "mask_20-40/2.png", "mask_<30/3.png"))
    assert len(source.table) == 3 and not source.labelled, "all can be predicted"
    assert "1 do not ('mask_20-40')" in source.notes[0]


def test_many_wrong_words_are_one_line_and_mapped_by_the_hint(tmp_path: Path) -> None:
    data = manifest(tmp_path, *[f"p{number},no_mask,{'MF'[number % 2]},30" for number in range(40)])
    with pytest.raises(FacecadeError) as caught:
        require_no_problems(read_source(data))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("has 80 problem(s):") and len(lines) == 4
    expected = "gender is 'M', expected male or female; did you mean male?: 20 rows, first manifest.csv row 2"
    assert expected in str(caught.value)
    options = ["mask.no_mask=normal", "gender.M=male", "gender.F=female"]
    assert " ".join(f"--map {option}" for option in options) in caught.value.hint
    source = read_source(data, make_reading(options))
    assert not source.problems and len(source.table) == 40 and set(source.table["mask"]) == {"normal"}
    assert "gender 'm' is male: 20 rows" in source.label_notes


def test_problems_of_one_kind_are_a_group_and_ten_groups_are_shown() -> None:
    problems = [Problem(f"a.csv row {row}", f"no file '{row}.png'", "no file") for row in range(2, 5)]
    assert grouped(problems) == ["no file: 3 rows, first a.csv row 2: no file '2.png'"]
    others = [Problem(f"a.csv row {row}", f"mask is '{row}'") for row in range(9, 21)]
    lines = grouped([*problems, *others, others[-1]])
    assert len(lines) == 11 and lines[1] == "a.csv row 9: mask is '9'" and lines[-1] == "and 4 more"
    assert len(grouped([*problems, *others], max_groups=None)) == 13


def test_a_manifest_without_people(tmp_path: Path) -> None:
    source = read_source(manifest(tmp_path, ",wear,male,30", ",normal,male,<30"))
    assert source.table["person"].tolist() == ["0.png", "1.png"] and not source.problems
    assert source.label_notes[0].startswith("no person is known") and source.table["middle"].tolist() == [False, True]
    named = read_source(manifest(tmp_path, "ann,wear,male,30", ",normal,male,30"))
    assert [str(each) for each in named.problems] == [
        "manifest.csv row 3: no person: all images of a person need the same name here"
    ]


def test_images_without_any_label_keep_their_order(tmp_path: Path) -> None:
    source = read_source(manifest(tmp_path, "b,,,", "a,,,"))
    assert source.table["person"].tolist() == ["b", "a"] and not source.labelled and not source.notes
