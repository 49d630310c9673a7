"""The training cost in floating-point operations."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.cost import forward_flops, images_in_epoch, training_flops


@pytest.fixture()
def table() -> pd.DataFrame:
    """24 people with seven images each; half are female, a third are old."""
    rows = []
    for person in range(24):
        gender, age = ("male", "female")[person % 2], (25.0, 45.0, 65.0)[person // 2 % 3]
        rows += [(str(person), mask, gender, age) for mask in ["wear"] * 5 + ["incorrect", "normal"]]
    return pd.DataFrame(rows, columns=["person", "mask", "gender", "age"])


def recipe(**settings: Any) -> StageRecipe:
    return StageRecipe.model_validate({"backbone": "resnet18", "size": [64, 64], "loss": "dldl", **settings})


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 84),
        ({"per_person": 2}, 24),
        ({"per_person": 2, "other_gender": 0.5}, 48),
        ({"per_person": 2, "patience": 2, "stop_share": 0.25}, 18),
        ({"per_person": 2, "copies_of_old": 1}, 32),
    ],
)
def test_images_in_an_epoch(settings: dict[str, Any], count: int, table: pd.DataFrame) -> None:
    assert images_in_epoch(make_stage("age-male", "dldl"), recipe(**settings), table) == count


def test_forward_flops_are_those_of_the_paper() -> None:
    """ResNet-18 has 1.8 billion multiply-adds at 224 × 224 (arXiv:1512.03385, table 1)."""
    stage = make_stage("mask", "ce")
    assert forward_flops(stage, recipe(size=[224, 224], loss="ce")) == (0, pytest.approx(2 * 1.8e9, rel=0.02))


def test_training_takes_three_times_the_forward_flops(table: pd.DataFrame) -> None:
    stage, settings = make_stage("age-male", "dldl"), recipe(epochs=5)
    assert training_flops(stage, settings, table) == 3 * forward_flops(stage, settings)[1] * 5 * 84


def test_a_frozen_part_is_computed_once_per_view(table: pd.DataFrame) -> None:
    stage, plain = make_stage("age-male", "dldl"), recipe(epochs=5)
    (_, total), costs = forward_flops(stage, plain), {}
    for until in ("all", "layer3"):
        settings = recipe(epochs=5, freeze=until)
        frozen, trainable = forward_flops(stage, settings)
        assert frozen + trainable == pytest.approx(total, rel=1e-3) and min(frozen, trainable) > 0
        costs[until] = training_flops(stage, settings, table)
        assert costs[until] == frozen * 2 * 84 + 3 * trainable * 5 * 84
    assert costs["all"] < costs["layer3"] < training_flops(stage, plain, table) / 2
