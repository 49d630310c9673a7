"""A run is begun on people who are one person each, with the labels that are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, call, scenes, succeed
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.faces.pseudo import PseudoLabels, PseudoRecord
from facecade.faces.reading import make_reading
from facecade.faces.split import folds_hash
from facecade.recipe_file import override, read_toml
from facecade.runs.begin import DataOptions, begin_run
from facecade.runs.fitting import require_years
from facecade.runs.run import Run, open_run

TABLES = override(read_toml(Path("recipes/demo.toml")), ["folds=3"], [])


def begin(tmp_path: Path, data: Path, **options: Any) -> Run:
    return begin_run(tmp_path / "run", data, TABLES, DataOptions(**options), shared_cache=True)


def answers(tmp_path: Path, *rows: str) -> list[Path]:
    (tmp_path / "same.csv").write_text("\n".join(["person,other,same", *rows]) + "\n")
    return [tmp_path / "same.csv"]


@pytest.mark.parametrize("copies", ["copies", "near"])
def test_people_who_share_an_image_are_refused(tmp_path: Path, copies: str) -> None:
    data = scenes(tmp_path / "data", 12, **{copies: {"p7-wear": "p1-normal"}})
    with pytest.raises(
        FacecadeError, match=r"images/p1-normal.png of 'p1' and images/p7-wear.png of 'p7' are"
    ) as caught:
        begin(tmp_path, data)
    assert "--same-person FILE" in caught.value.hint and not (tmp_path / "run").exists()


def test_a_dry_run_finds_equal_files(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 12, copies={"p7-wear": "p1-normal"})
    words = ["--data", data, "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "a", "--dry-run"]
    result = call("fit-stage", "mask", *words)
    assert result.exit_code == 1 and "are equal files" in result.stderr and "Next: is it one person?" in result.stderr
    assert not (tmp_path / "a").exists()


def test_joined_people_are_one_person_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = scenes(tmp_path / "data", 12, copies={"p7-wear": "p1-normal"})
    run = begin(tmp_path, data, same_person=answers(tmp_path, "p7,p1,yes"))
    assert run.table["person"].nunique() == 11 and "p7" not in set(run.table["person"])
    assert run.table.groupby("person")["fold"].nunique().max() == 1 and (run.table["person"] == "p1").sum() == 6
    assert "where" not in run.table
    saved = open_run(run.folder)
    assert saved.same_person == [{"person": "p7", "other": "p1", "same": "yes"}]
    assert (saved.folds_hash, saved.labels_hash) == (folds_hash(run.table), run.labels_hash)
    notes = capsys.readouterr().err
    assert "same person: 'p7' is 'p1'" in notes and "2 images are equal to another of the same person" in notes
    again = begin(tmp_path, data, same_person=[run.same_person_file])
    assert again.signature("mask") == run.signature("mask")


def test_people_apart_keep_their_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = scenes(tmp_path / "data", 12, near={"p7-wear": "p1-normal"})
    run = begin(tmp_path, data, same_person=answers(tmp_path, "p1,p7,no"))
    assert run.table["person"].nunique() == 12
    assert "1 pairs of people share images, and are kept apart as you said" in capsys.readouterr().err
    begin(tmp_path, scenes(tmp_path / "others", 12))
    assert not run.same_person_file.exists(), "of the earlier run in this folder"


def test_joined_people_of_two_genders_are_refused_until_corrected(tmp_path: Path) -> None:
    data, same = scenes(tmp_path / "data", 12), answers(tmp_path, "p0,p1,yes")
    with pytest.raises(FacecadeError, match=r"row 5: person 'p0' is female here, and male in manifest.csv row 2"):
        begin(tmp_path, data, same_person=same)
    for gender in ("male", "female"):  # of both ids, whichever is given
        (tmp_path / "corrections.csv").write_text(f"id,field,value\np1,gender,{gender}\np1,mask,swap\n")
        run = begin(tmp_path, data, same_person=same, corrections=[tmp_path / "corrections.csv"])
        corrected = run.table[run.table["person"] == "p0"].set_index("path")
        assert set(corrected["gender"]) == {gender} and corrected["mask"]["images/p0-normal.png"] == "normal"
        assert corrected["mask"]["images/p1-normal.png"] == "incorrect"


def test_extra_data_know_joined_people_and_near_duplicates(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 12)
    more = scenes(tmp_path / "more", 20, near={})
    sheet = pd.read_csv(more / "manifest.csv")[36:]  # people of whom no image is in the data
    (more / "manifest.csv").write_text(sheet.to_csv(index=False))
    shutil.copy(data / "images/p0-wear.png", more / "images/p12-wear.png")
    Image.open(data / "images/p1-normal.png").resize((96, 128)).save(more / "images/p13-wear.png")
    run = begin(tmp_path, data, extra=more, same_person=answers(tmp_path, "p2,p14,yes"))
    extra = run.extra_data["added"]
    assert "left out 1 images that are scored; left out 1 near-duplicates of scored images" in extra.record.text
    assert "22 images of 8 people" in extra.record.text and "1 people are also scored" in extra.record.text
    own_fold = run.table["fold"][run.table["person"] == "p2"].iloc[0]
    of_p2 = extra.table[extra.table["person"] == "p2"]
    assert set(of_p2["fold"]) == {0, 1, 2} - {own_fold} and not set(extra.table["path"]) & {
        "images/p12-wear.png",
        "images/p13-wear.png",
    }


def test_pseudo_labels_of_near_duplicates_are_left_out(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 12)
    teacher = begin(tmp_path, data)
    new = scenes(tmp_path / "new", 14)
    Image.open(data / "images/p3-wear.png").resize((96, 128)).save(new / "images/p12-wear.png")
    paths = [f"images/{name}.png" for name in ("p12-wear", "p12-normal", "p13-wear")]
    content = [content_hash(new / path) for path in paths]
    table = pd.DataFrame({"path": paths, "content": content, "person": paths})
    table = table.assign(mask="wear", gender="male", age=30.0, confidence=0.9)
    table = pd.concat([table.assign(fold=fold) for fold in range(3)], ignore_index=True)
    record = PseudoRecord(
        data=str(new),
        text="three images",
        flag="pseudo-labelled",
        years=True,
        run="teacher",
        confidence=0.9,
        folds_hash=teacher.folds_hash,
        offered=3,
        new=3,
        labels=[3, 3, 3],
        held_out={"share": 0.5, "accuracy": 0.5},
    )
    PseudoLabels(table, record).save(teacher.folder / "pseudo")
    extra = begin_run(
        tmp_path / "student", data, TABLES, DataOptions(pseudo=teacher.folder), shared_cache=True
    ).extra_data
    assert set(extra["pseudo"].table["path"]) == set(paths[1:])
    assert extra["pseudo"].record.text == "three images; of these, 1 near-duplicates of scored images are left out"


def without(data: Path, keep: Any) -> Path:
    """The same manifest with the rows, or the labels in them, that `keep` returns."""
    sheet = data / "manifest.csv"
    sheet.write_text(keep(pd.read_csv(sheet)).to_csv(index=False))
    return data


def plan(data: Path, tmp_path: Path, *stages: str) -> tuple[int, str]:
    words = ["--data", data, "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "a", "--dry-run"]
    result = call("fit-stage", *(stages or ("all",)), *words)
    return result.exit_code, result.stderr


def test_a_mask_stage_needs_no_ages_and_nobody_old(tmp_path: Path) -> None:
    young = without(scenes(tmp_path / "young", 18), lambda table: table[table["age"] < 60])
    code, text = plan(young, tmp_path, "all")
    assert code == 0 and "no image is male >=60 or female >=60: classes 2, 5, 8, 11, 14, 17 cannot be learned" in text
    ageless = without(scenes(tmp_path / "ageless", 12), lambda table: table.assign(age=np.nan))
    code, text = plan(ageless, tmp_path, "mask")
    assert code == 0 and "male unknown: 6" in text and "no image has all three labels" in text
    code, text = plan(ageless, tmp_path)
    assert code == 1 and "joint: no image has the label age" in text and "age-male: no image has its label" in text
    assert "fit the others: python cli.py fit-stage mask" in text


def test_a_stage_of_one_class_is_refused(tmp_path: Path) -> None:
    men = without(scenes(tmp_path / "men", 18), lambda table: table[table["gender"] == "male"])
    code, text = plan(men, tmp_path, "gender")
    assert code == 1 and "joint: the label gender is the same in all 27 images that have it" in text
    assert plan(men, tmp_path, "mask")[0] == 0

    def one_woman(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["gender"] == "male") | (table["person"] == "p1")]

    code, text = plan(without(scenes(tmp_path / "one", 18), one_woman), tmp_path, "gender")
    assert code == 1 and "gender is the same in all" in text and "without its held-out people" in text


def test_a_stage_that_cannot_be_trained_is_refused_before_any_fit(tmp_path: Path) -> None:
    ageless = without(scenes(tmp_path / "ageless", 12), lambda table: table.assign(age=np.nan))
    words = ["--data", ageless, "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "a", *TINY]
    assert call("fit-stage", "all", *words).exit_code == 1 and not (tmp_path / "a/stages").exists()
    record = json.loads(succeed("fit-stage", "mask", "--fold", 0, "--artifacts", tmp_path / "a", "--json"))
    assert record[0]["score"]["accuracy"] >= 0


def test_groups_with_fewer_people_than_folds_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path, scenes(tmp_path / "data", 17))
    assert (
        "groups with fewer people than the 3 folds: female >=60: 2; some folds hold none of them out: label at least 3"
        in capsys.readouterr().err
    )


def test_a_run_keeps_how_its_labels_were_read(tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 12)
    plain = begin(tmp_path, data)
    sheet = data / "manifest.csv"
    sheet.write_text(sheet.read_text().replace(",male,", ",M,"))
    with pytest.raises(FacecadeError, match="gender is 'M', expected male or female") as caught:
        begin(tmp_path, data)
    assert "if that is meant: --map gender.M=male" in caught.value.hint
    run = begin(tmp_path, data, reading=make_reading(["gender.M=male"], person_pattern="(p[0-9]+)"))
    assert run.labels_hash == plain.labels_hash and run.signature("gender") == plain.signature("gender")
    assert open_run(run.folder).reading == ["--map", "gender.M=male", "--person-pattern", "(p[0-9]+)"]


def test_bands_train_with_a_note_and_do_not_look_censored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = scenes(tmp_path / "data", 30)
    sheet = data / "manifest.csv"
    text = sheet.read_text().replace(",25\n", ",<30\n").replace(",45\n", ",30-59\n")
    sheet.write_text(text.replace(",70\n", ",\n"))
    run = begin(tmp_path, data)
    assert run.cap is None and set(run.table["age"].dropna()) == {15, 45}
    assert (
        "only a band is known of 60 images: 30-59 as 45 (30 images), <30 as 15 (30 images)" in capsys.readouterr().err
    )
    sheet.write_text(text.replace(",70\n", ",>=60\n"))
    assert begin(tmp_path, data).cap == 60, "at least 60"


def test_bands_of_extra_data_are_not_years(tmp_path: Path) -> None:
    data, more = scenes(tmp_path / "data", 12), scenes(tmp_path / "more", 20)
    sheet = more / "manifest.csv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0], *lines[37:]]).replace(",45", ",30-59"))
    run = begin(tmp_path, data, extra=more)
    assert not run.extra_data["added"].record.years
    require_years(run, ["mask"])
    with pytest.raises(FacecadeError, match="only age bands, and age-male would train on years made from them"):
        require_years(run, ["age-male"])
