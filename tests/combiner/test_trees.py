"""Trees reach XGBoost only where they are consistent: its own reader crashes on others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from pydantic import ValidationError

from facecade.base.artifact import read_record, write_record
from facecade.base.errors import FacecadeError
from facecade.combiner.trees import Trees
from facecade.faces.labels import N_CLASSES

NAMES = ["a", "b.c", "d"]
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(200, 3)).astype(np.float32)
MATRIX = xgb.DMatrix(VALUES, RNG.integers(0, N_CLASSES, 200), feature_names=NAMES)


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    parameters = {"objective": "multi:softprob", "num_class": N_CLASSES, "max_depth": 3, "nthread": 1}
    return xgb.train(parameters, MATRIX, 2)


def test_read_trees_predict_and_explain_the_same(booster: xgb.Booster, tmp_path: Path) -> None:
    write_record(tmp_path / "model.json", Trees.of(booster))
    read = read_record(tmp_path / "model.json", Trees).booster()
    assert (read.predict(MATRIX) == booster.predict(MATRIX)).all()
    assert (read.predict(MATRIX, pred_contribs=True) == booster.predict(MATRIX, pred_contribs=True)).all()
    assert read.save_raw() == booster.save_raw()


@pytest.mark.parametrize(("depth", "rounds", "rows"), [(1, 1, 5), (6, 40, 3000)])
def test_margins_are_those_of_xgboost(depth: int, rounds: int, rows: int) -> None:
    """Bit by bit, also where features are unknown."""
    generator = np.random.default_rng(depth)
    values = generator.normal(size=(rows, 3)).astype(np.float32)
    values[generator.random(values.shape) < 0.2] = np.nan
    start = generator.normal(size=(rows, N_CLASSES)).astype(np.float32)
    matrix = xgb.DMatrix(values, generator.integers(0, N_CLASSES, rows), base_margin=start, feature_names=NAMES)
    parameters = {"objective": "multi:softprob", "num_class": N_CLASSES, "max_depth": depth, "min_child_weight": 0.1}
    booster = xgb.train({**parameters, "nthread": 1}, matrix, rounds)
    margin = Trees.of(booster).margin(values, start)
    assert (margin == booster.predict(matrix, output_margin=True)).all() and not (margin == start).all()


def first_split(model: dict[str, Any]) -> dict[str, Any]:
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    return next(tree for tree in trees if len(tree["left_children"]) > 1)


def endless(model: dict[str, Any]) -> None:
    first_split(model)["left_children"][0] = 0


def outside(model: dict[str, Any]) -> None:
    first_split(model)["right_children"][0] = 10_000


def shared_child(model: dict[str, Any]) -> None:
    tree = first_split(model)
    tree["left_children"][0] = tree["right_children"][0]


def one_child(model: dict[str, Any]) -> None:
    first_split(model)["left_children"][0] = -1


def unknown_feature(model: dict[str, Any]) -> None:
    first_split(model)["split_indices"][0] = 3


def short_list(model: dict[str, Any]) -> None:
    first_split(model)["split_conditions"].pop()


def more_nodes(model: dict[str, Any]) -> None:
    first_split(model)["tree_param"]["num_nodes"] = "1000000"


def more_trees(model: dict[str, Any]) -> None:
    model["learner"]["gradient_booster"]["model"]["gbtree_model_param"]["num_trees"] = "1000000"


def other_class(model: dict[str, Any]) -> None:
    model["learner"]["gradient_booster"]["model"]["tree_info"][0] = 18


def other_rounds(model: dict[str, Any]) -> None:
    model["learner"]["gradient_booster"]["model"]["iteration_indptr"][1] = 10_000


def other_classes(model: dict[str, Any]) -> None:
    model["learner"]["learner_model_param"]["num_class"] = "3"


def more_features(model: dict[str, Any]) -> None:
    model["learner"]["learner_model_param"]["num_feature"] = "100"


def short_base_score(model: dict[str, Any]) -> None:
    model["learner"]["learner_model_param"]["base_score"] = "[1E0,2E0]"


def categories(model: dict[str, Any]) -> None:
    first_split(model)["split_type"][0] = 1


def not_finite(model: dict[str, Any]) -> None:
    first_split(model)["base_weights"][0] = float("nan")


@pytest.mark.parametrize(
    "damage",
    [
        endless,
        outside,
        shared_child,
        one_child,
        unknown_feature,
        short_list,
        more_nodes,
        more_trees,
        other_class,
        other_rounds,
        other_classes,
        more_features,
        short_base_score,
        categories,
        not_finite,
    ],
)
def test_inconsistent_trees_are_refused(damage: Any, booster: xgb.Booster) -> None:
    model = json.loads(booster.save_raw("json"))
    damage(model)
    with pytest.raises(ValidationError):
        Trees.model_validate_json(json.dumps(model))


def test_unknown_keys_do_not_reach_xgboost(booster: xgb.Booster) -> None:
    model = json.loads(booster.save_raw("json"))
    model["learner"]["gradient_booster"]["model"]["cats"] = {"enc": [1], "feature_segments": [9], "sorted_idx": [9]}
    read = Trees.model_validate_json(json.dumps(model)).booster()
    assert (read.predict(MATRIX) == booster.predict(MATRIX)).all()


def test_what_xgboost_cannot_read_is_an_error_in_words(booster: xgb.Booster, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = Trees.of(booster)

    def refuse(**_: Any) -> None:
        raise xgb.core.XGBoostError("[12:00:00] a check failed\nStack trace: ...")

    monkeypatch.setattr(xgb, "Booster", refuse)
    with pytest.raises(FacecadeError, match=r"XGBoost cannot read its trees: \[12:00:00\] a check failed$"):
        trees.booster()
