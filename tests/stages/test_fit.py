"""The labels that a fold is trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, call

from facecade.base.errors import FacecadeError
from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.check import nothing_to_learn
from facecade.stages.fit import (
    NO_FOLD,
    Fit,
    _excluded_ages,
    _split_stop_rows,
    _training_labels,
    _validation_rows,
    discard_earlier,
)
from facecade.training.freeze import CachedFeatures
from facecade.training.loop import TrainingData
from facecade.training.tracking import read_history

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


def test_the_curve_is_of_labelled_people_who_are_held_out(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is that of cached features, which are computed of those rows, too."""
    seen: list[TrainingData] = []

    def capture(model: object, data: TrainingData, *more: object, **named: object) -> None:
        seen.append(data)
        raise FacecadeError("seen")

    monkeypatch.setattr("facecade.stages.fit.fit", capture)
    words = ["--data", drawn / "train", "--recipe", "demo", "--artifacts", tmp_path / "run", *TINY, "--fold", 1]
    call("fit-stage", "mask", "age-male", *words)
    call(
        "fit-stage",
        "mask",
        "--artifacts",
        tmp_path / "run",
        "--set",
        "freeze=all",
        "--set",
        "augment=none",
        "--jobs",
        1,
    )
    table = pd.read_csv(tmp_path / "run/table.csv")
    assert len(seen) == 2 + 3 and isinstance(seen[-1].samples, CachedFeatures)
    for fold, data in zip((1, 1, 0, 1, 2), seen, strict=True):
        assert data.validation and set(table["fold"].iloc[data.validation.rows]) == {fold}
        assert fold not in set(table["fold"].iloc[data.rows])
        assert np.isfinite(data.target[data.validation.rows]).all()
        if isinstance(data.samples, CachedFeatures):
            assert (data.samples.feature_row[data.validation.rows] >= 0).all()


def test_the_curve_is_of_a_tenth_of_an_epoch_within_bounds() -> None:
    count = {rows: len(_validation_rows(np.arange(9000), _data(rows), make_fit("mask", "ce"))) for rows in ROW_COUNTS}
    assert count == ROW_COUNTS
    assert len(_validation_rows(np.arange(7), _data(5000), make_fit("mask", "ce"))) == 7


ROW_COUNTS = {100: 64, 1000: 100, 3000: 300, 50_000: 400}


def _data(rows: int) -> TrainingData:
    index = np.arange(rows)
    return TrainingData(index, index[:0], index, index, index, index, index > 0, None)  # type: ignore[arg-type]


def test_fits_have_curves_of_their_own_measures(fitted: Path) -> None:
    names = {
        stage: set(read_history(fitted / f"stages/{stage}/fold0")[-1]) - {"epoch", "loss", "lr", "seconds"}
        for stage in ("joint", "mask", "age-male")
    }
    assert names == {
        "joint": {"val_loss", "val_mask_accuracy", "val_gender_accuracy", "val_age_mae"},
        "mask": {"val_loss", "val_accuracy"},
        "age-male": {"val_loss", "val_mae"},
    }


def test_a_checkpoint_is_resumed_only_if_the_fit_started_from_the_same_weights(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"first")
    fit = replace(make_fit("mask", "ce"), folder=tmp_path / "fit", weights=str(weights))
    fit.folder.mkdir()
    fit.checkpoint.touch()
    discard_earlier(fit, resume=True)
    assert fit.checkpoint.exists()
    weights.write_bytes(b"other")
    discard_earlier(fit, resume=True)
    assert not fit.checkpoint.exists() and not list(fit.folder.glob("checkpoint-*"))
