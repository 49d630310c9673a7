"""`check` compares the images of different people, and names what the labels lack or contradict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import call, scenes, succeed


def test_people_who_share_images_are_bad(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 8, copies={"p3-wear": "p1-normal"}, near={"p6-normal": "p2-incorrect"})
    result = call("check", data)
    assert result.exit_code == 1 and "2 problem(s)" in result.stdout
    assert "images/p1-normal.png of 'p1' and images/p3-wear.png of 'p3' are equal files" in result.stdout
    assert "images/p2-incorrect.png of 'p2' and images/p6-normal.png of 'p6' are near-duplicates (" in result.stdout
    assert "--write-pairs FILE" in result.stderr
    pairs = json.loads(call("check", data, "--json").stdout)["pairs"]
    assert [(pair["person"], pair["other"], pair["bits"] is None) for pair in pairs] == [
        ("p1", "p3", True),
        ("p2", "p6", False),
    ]


def test_pairs_are_written_once_and_settle_the_people_when_completed(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 8, copies={"p3-wear": "p1-normal"}, near={"p6-normal": "p2-incorrect"})
    file = tmp_path / "pairs.csv"
    result = call("check", data, "--write-pairs", file)
    assert result.exit_code == 1 and str(file) in result.stderr
    with file.open() as rows:
        written = list(csv.DictReader(rows))
    assert [(row["person"], row["other"], row["same"]) for row in written] == [("p1", "p3", "yes"), ("p2", "p6", "")]
    assert written[1]["image"] == "images/p2-incorrect.png" and int(written[1]["bits"]) <= 40
    again = call("check", data, "--write-pairs", file)
    assert again.exit_code == 1 and "exists already" in again.stderr and not again.stdout
    unfinished = call("check", data, "--same-person", file)
    assert unfinished.exit_code == 1 and "pairs.csv row 3: same is empty" in unfinished.stderr
    file.write_text(file.read_text().replace("p6,,", "p6,no,"))
    answered = json.loads(succeed("check", data, "--same-person", file, "--json"))
    assert (answered["people"], answered["pairs"], answered["problems"]) == (7, [], [])


def test_joined_people_must_have_one_gender(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 4)
    (tmp_path / "pairs.csv").write_text("person,other,same\np0,p1,yes\np0,p2,yes\n")
    result = call("check", data, "--same-person", tmp_path / "pairs.csv")
    assert result.exit_code == 1
    assert "manifest.csv row 5: person 'p0' is female here, and male in manifest.csv row 2" in result.stdout
    assert "note: person 'p0' is 25 (manifest.csv row 2) to 45 (manifest.csv row 10) years old" in result.stdout


def test_many_pairs_are_counted(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 24, copies={f"p{number}-wear": "p0-wear" for number in range(1, 24)})
    result = json.loads(call("check", data, "--json").stdout)
    assert len(result["pairs"]) == 23 and len(result["problems"]) == 21
    assert result["problems"][-1] == "and 3 more pairs of people who share images"


def test_drawn_people_are_not_taken_for_one_another(drawn: Path) -> None:
    result = json.loads(succeed("check", drawn / "train", "--json"))
    assert result["pairs"] == [] and any("look too much alike" in text for text in result["notes"])


def test_equal_images_of_one_person_and_missing_labels_are_notes(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 6, copies={"p3-wear": "p3-normal"})
    sheet = data / "manifest.csv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0], *(line.rpartition(",")[0] + "," for line in lines[1:])]))
    notes = json.loads(succeed("check", data, "--json"))["notes"]
    assert "2 images are equal to another of the same person" in notes
    assert "labels: mask 18, gender 18, age 0 of 18 images; all three 0" in notes
    assert any(text.startswith("no image has all three labels") for text in notes)


@pytest.mark.parametrize("layout", ["info", "folder"])
def test_images_to_predict_are_not_compared(tmp_path: Path, layout: str) -> None:
    data = scenes(tmp_path / "data", 3, copies={"p1-wear": "p0-wear"})
    (data / "manifest.csv").unlink()
    if layout == "info":
        (data / "info.csv").write_text("ImageID,ans\np0-wear.png,0\np1-wear.png,0\n")
    assert json.loads(succeed("check", data, "--json"))["pairs"] == []


def test_unlabelled_images_can_be_predicted_and_not_trained_on(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 2) / "images"
    text = succeed("check", data)
    assert "unlabelled: can be predicted, not trained on" in text and "no problems" in text
    result = call("check", data, "--for", "training")
    assert result.exit_code == 1 and "bad: " in result.stdout and "not trained on" in result.stdout


def test_too_few_people_for_the_folds_are_bad(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 3)
    result = call("check", data)
    assert result.exit_code == 1
    assert "note: for training with 4 folds, as recipe cpu has; another: --recipe, --set folds=N" in result.stdout
    assert (
        "bad: training: 3 people cannot be split into 4 folds: label at least 4 people, or use fewer folds:"
        in result.stdout
    )
    assert "--set folds=3" in result.stdout
    assert "no problems" in succeed("check", data, "--for", "prediction")
    of_three = succeed("check", data, "--set", "folds=3")
    assert "male <30: 1" in of_three and "label at least 3 people of each" in of_three
    assert "--set folds=3" not in of_three, "there are three already"


def test_too_few_people_of_a_mask_state_are_named(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 24)
    sheet = data / "manifest.csv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join(line for line in lines if "incorrect" not in line or ",p0," in line or ",p1," in line))
    assert "incorrect: 2; some folds hold none of them out" in succeed("check", data)
    sheet.write_text("\n".join(line for line in lines if "incorrect" not in line))
    assert "note: no image is incorrect: classes 6, 7, 8, 9, 10, 11 cannot be learned" in succeed("check", data)


def test_stages_without_their_label_are_named_and_bad_for_training(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 8)
    sheet = data / "manifest.csv"
    lines = [line.split(",") for line in sheet.read_text().splitlines()]
    rows = [[path, person, "wear" if mask == "incorrect" else mask, "", ""] for path, person, mask, _, _ in lines[1:]]
    sheet.write_text("\n".join(map(",".join, [lines[0], *rows])))
    text = succeed("check", data, "--recipe", "demo")
    assert "stage gender cannot be trained: no image has its label" in text
    assert "no image is incorrect: no stage can learn that" in text
    result = call("check", data, "--recipe", "demo", "--for", "training")
    assert result.exit_code == 1 and "bad: stage gender: no image has its label" in result.stdout
    assert "stage mask" not in result.stdout


def test_wrong_words_are_one_line_and_can_be_mapped(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 8)
    sheet = data / "manifest.csv"
    sheet.write_text(sheet.read_text().replace(",male,", ",M,"))
    result = call("check", data)
    assert result.exit_code == 1 and "12 problem(s)" in result.stdout
    line = "bad: gender is 'M', expected male or female; did you mean male?: 12 rows, first manifest.csv row 2"
    assert [each for each in result.stdout.splitlines() if each.startswith("bad")] == [line]
    assert "Next: if that is meant: --map gender.M=male" in result.stderr
    assert len(json.loads(call("check", data, "--json").stdout)["problems"]) == 12
    assert "note: gender 'm' is male: 12 rows" in succeed("check", data, "--map", "gender.M=male")


def test_labels_that_are_all_wrong_are_not_called_missing(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 8)
    sheet = data / "manifest.csv"
    sheet.write_text(sheet.read_text().replace(",male,", ",M,").replace(",female,", ",F,"))
    result = call("check", data, "--for", "training")
    assert result.exit_code == 1 and "unlabelled" not in result.stdout and "24 problem(s)" in result.stdout
