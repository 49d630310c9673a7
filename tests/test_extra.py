"""Extra data (--extra): every fold trains on them, and they are never scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, call, succeed

from facecade.base.errors import FacecadeError
from facecade.faces.extra import build_extra
from facecade.faces.synthetic import draw_data
from facecade.runs.run import open_run
from facecade.stages.fit import NO_FOLD, RunData


def table(people: list[str], content: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"{word}.jpg" for word in content],
            "content": content,
            "person": people,
            "mask": "wear",
            "gender": "male",
            "age": 30.0,
        }
    )


SCORED = table(["a", "a", "b", "c"], ["a0", "a1", "b0", "c0"]).assign(fold=[0, 0, 1, 2])


def test_all_folds_train_on_new_people_and_all_but_their_own_on_known_people() -> None:
    extra = build_extra(Path("more"), table(["n", "a", "b"], ["n0", "a2", "b1"]), SCORED, 3)
    content = {fold: set(rows["content"]) for fold, rows in extra.table.groupby("fold")}
    assert content == {0: {"n0", "b1"}, 1: {"n0", "a2"}, 2: {"n0", "a2", "b1"}}
    assert "2 people are also scored, and left out of the fold" in extra.record.text


def test_scored_image_is_left_out_under_another_name() -> None:
    extra = build_extra(Path("more"), table(["x", "x"], ["a0", "n0"]), SCORED, 3)
    assert set(extra.table["content"]) == {"n0"} and "left out 1 images that are scored" in extra.record.text
    with pytest.raises(FacecadeError, match="already in the data"):
        build_extra(Path("more"), table(["x"], ["a0"]), SCORED, 3)


def test_fit_on_all_people_trains_on_each_extra_image_once() -> None:
    extra = build_extra(Path("more"), table(["n", "a", "b"], ["n0", "a2", "b1"]), SCORED, 3).table
    crops = extra.assign(crop=extra["path"].map({"n0.jpg": 4, "a2.jpg": 5, "b1.jpg": 6}))
    run_data = RunData(SCORED, Path("crops"), (7, 1, 1, 3), np.arange(4), np.arange(2), crops)
    for fold, crops_expected in ((1, [0, 1, 2, 3, 4, 5]), (3, [0, 1, 2, 3, 4, 5, 6])):
        training_table, crop_row = run_data.training_table(fold)
        assert sorted(crop_row) == crops_expected and (training_table["fold"][4:] == NO_FOLD).all()


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people who are in no other folder."""
    folder = tmp_path_factory.mktemp("more") / "train"
    draw_data(folder.parent, people=8, seed=99)
    people = pd.read_csv(folder / "train.csv", dtype=str)
    people.assign(id="more-" + people["id"]).to_csv(folder / "train.csv", index=False)
    return folder


def test_extra_data_are_trained_on_and_not_scored(drawn: Path, fitted: Path, more: Path, tmp_path: Path) -> None:
    begin = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--extra", more, "--artifacts", tmp_path]
    records = json.loads(succeed("fit-stage", "mask", *begin, *TINY, "--json"))
    run, without = open_run(tmp_path), open_run(fitted)
    images = len(list((more / "images").rglob("*.*")))
    assert images and [record["extra_data"] for record in records] == [images] * 3
    assert len(run.table) == len(without.table) and (run.table["fold"] == without.table["fold"]).all()
    assert run.signature("mask") != without.signature("mask")
    assert {run.trained_on[content] for content in run.extra_data["added"].table["content"]} == {"trained-on"}
    text = succeed("ls", "--artifacts", tmp_path)
    assert f"extra data: {images} images of 8 people" in text
    np.testing.assert_array_equal(
        np.sort(run.extra_data["added"].table["fold"].unique()), np.arange(3), "every fold trains on them"
    )


def test_bad_extra_data_are_refused(drawn: Path, more: Path, tmp_path: Path) -> None:
    begin = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "a", *TINY]
    assert "already in the data" in call("fit-stage", "mask", *begin, "--extra", drawn / "train").stderr
    broken = tmp_path / "broken"
    shutil.copytree(more, broken)
    image = sorted((broken / "images").rglob("*.*"))[0]
    image.write_bytes(b"no image")
    result = call("fit-stage", "mask", *begin, "--extra", broken)
    assert result.exit_code == 1 and image.name in result.stderr
    (tmp_path / "plain").mkdir()
    shutil.copy(sorted((more / "images").rglob("*.*"))[0], tmp_path / "plain")
    assert "no labels to train on" in call("fit-stage", "mask", *begin, "--extra", tmp_path / "plain").stderr
    assert "give --data as well" in call("fit-stage", "mask", "--artifacts", tmp_path / "b", "--extra", more).stderr
