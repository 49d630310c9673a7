"""The labels that a fold is trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import call

from facecade.base.errors import FacecadeError
from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.check import nothing_to_learn
from facecade.stages.fit import NO_FOLD, Fit, _excluded_ages, _split_stop_rows, _training_labels

TABLE = pd.DataFrame({"mask": "wear", "gender": "female", "age": [20.0, 57.5, 58.0, 59.9, 60.0, 75.0]})


def make_fit(stage: str, loss: str, **settings: Any) -> Fit:
    recipe = StageRecipe.model_validate({"backbone": "x", "loss": loss, **settings})
    return Fit(
        make_stage(stage, loss, 0.0),
        0,
        "fold 0",
        recipe,
        "none",
        [],
        [],
        None,
        0,
        "signature",
        "folds",
        Path("nowhere"),
    )


def test_old_from_moves_the_edge_of_the_oldest_band_in_training() -> None:
    fit = make_fit("flat", "ce", old_from=58.0)
    assert fit.stage.target(_training_labels(TABLE, fit)).tolist() == [3, 4, 5, 5, 5, 5]
    assert fit.stage.stratum(_training_labels(TABLE, fit)).tolist() == [3, 4, 5, 5, 5, 5], (
        "sampling is balanced by training labels"
    )
    assert fit.stage.target(TABLE).tolist() == [3, 4, 4, 4, 5, 5], "the labels for scoring do not change"
    with pytest.raises(FacecadeError, match="learns years"):
        _training_labels(TABLE, make_fit("age-male", "l1", old_from=58.0))


def test_early_stopping_takes_extra_people_where_nobody_else_has_the_label() -> None:
    table = pd.DataFrame({"person": list("abcdefghij"), "fold": NO_FOLD})
    rows, stop_rows = _split_stop_rows(np.arange(10), table, make_fit("mask", "ce", patience=2, stop_share=0.2))
    assert len(stop_rows) == 2 and sorted([*rows, *stop_rows]) == list(range(10))


@pytest.mark.parametrize(
    ("stage", "change", "reason"),
    [
        ("mask", {}, ""),
        ("mask", {"mask": ""}, "no image has its label"),
        ("gender", {"gender": "female"}, "its label is the same in all 6 images that have it"),
        ("age-male", {"age": np.nan}, "no image has its label"),
        ("age-male", {"gender": "female"}, "no image has its label"),
        ("joint", {"age": np.nan}, "no image has the label age"),
        ("joint", {"mask": "wear"}, "the label mask is the same in all 6 images that have it"),
        ("gender-age", {"age": np.nan}, "no image has its label"),
    ],
)
def test_a_stage_needs_two_values_of_its_label(stage: str, change: dict[str, Any], reason: str) -> None:
    table = TABLE.assign(mask=["wear", "normal"] * 3, gender=["male", "female"] * 3).assign(**change)
    fit = make_fit(stage, "l1" if stage in ("age-male", "joint") else "ce")
    assert nothing_to_learn(fit.stage, fit.recipe, table) == reason


def test_auxiliary_tasks_need_no_labels_and_left_out_ages_teach_nothing() -> None:
    table = TABLE.assign(mask=["wear", "normal"] * 3)
    fit = make_fit("mask", "ce")
    assert nothing_to_learn(make_stage("mask", "ce", 0.2), fit.recipe, table.assign(age=np.nan, gender="")) == ""
    left_out = make_fit("mask", "ce", leave_out=(0.0, 100.0))
    assert nothing_to_learn(left_out.stage, left_out.recipe, table) == "no image has its label"


def test_leave_out_excludes_ages_from_training() -> None:
    assert np.flatnonzero(_excluded_ages(TABLE, make_fit("flat", "ce", leave_out=(58.0, 60.0)).recipe)).tolist() == [
        2,
        3,
    ]
    assert not _excluded_ages(TABLE, make_fit("flat", "ce").recipe).any()


def test_training_that_diverges_is_a_failed_fit(fitted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock"))
    setting = ["--set", "lr=1000.0", "--set", "weight_decay=1000.0", "--set", "ema=0.0"]
    result = call("fit-stage", "joint", "--fold", 0, "--artifacts", run, *setting, "--jobs", 1)
    assert result.exit_code == 1 and "the training of joint fold 0 diverged" in result.stderr
    assert "--set stages.joint.lr=100" in result.stderr
    assert not (run / "stages/joint/fold0/meta.json").exists()
