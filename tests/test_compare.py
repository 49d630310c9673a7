"""Recipes compared on the same folds; scaled to the same compute."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import call, succeed

from comparison.budget import Budget, epoch_length, read_budget, scale
from recipe import parse, read_toml

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
[face]
detector = "centre"
size = [48, 36]
fallback = 1.0

[stages.flat]
backbone = "test_efficientnet"
size = [48, 36]
epochs = 2
loss = "{loss}"
views = ["plain"]

[combiner]
anchors = 50
rounds = 2
components = 4
"""


@pytest.fixture()
def two(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "first.toml", tmp_path / "second.toml"]
    for path, loss in zip(paths, ("ce", "focal"), strict=True):
        path.write_text(SMALL.format(loss=loss))
    return paths


def test_two_recipes_end_to_end_and_again(two: list[Path], drawn: Path, tmp_path: Path) -> None:
    where = ["--artifacts", tmp_path / "a", "--output", tmp_path / "o", "--folds", 3, "--jobs", 1]
    scored = ["--eval", drawn / "eval", "--labels", drawn / "eval/eval_labels.csv"]
    result = json.loads(succeed("compare", *two, "--data", drawn / "train", *where, *scored, "--json"))
    assert not result["failed"] and {row["recipe"] for row in result["entries"]} == {"first", "second"}
    assert {row["kind"] for row in result["entries"]} == {"as published", "combined"}
    values = [row["nested"]["macro-F1"]["value"] for row in result["entries"]]
    assert values == sorted(values, reverse=True) and result["entries"][0]["to_best"]["value"] == 0
    for row in result["entries"]:
        assert row["to_best"]["value"] == pytest.approx(row["nested"]["macro-F1"]["value"] - values[0], abs=1e-5)
        assert row["eval"]["accuracy"]["value"] > 0 and row["parameters"] > 0 and row["photographs_per_second"] > 0
    assert len({row["folds_hash"] for row in result["entries"]}) == 1
    assert len(pd.read_csv(tmp_path / "o/leaderboard.csv")) == 4
    assert "| 1 | " in (tmp_path / "o/leaderboard.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("weights.safetensors")}
    again = call("compare", *two, "--data", drawn / "train", *where)
    assert again.exit_code == 0 and again.stderr.count("fitted already") == 6
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("weights.safetensors")}


def test_one_that_fails_is_named_and_the_other_is_ranked(two: list[Path], drawn: Path, tmp_path: Path) -> None:
    two[1].write_text(SMALL.format(loss="focl"))
    where = ["--artifacts", tmp_path / "a", "--output", tmp_path / "o", "--folds", 3, "--jobs", 1]
    result = call("compare", *two, "--data", drawn / "train", *where)
    assert result.exit_code == 1 and "did you mean focal" in result.stdout and "| 1 | first |" in result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/published").glob("*.toml")), ids=lambda path: path.stem)
def test_a_budget_gives_every_recipe_the_same(path: Path) -> None:
    budget = read_budget(ROOT / "recipes/budgets/cpu.toml").model_copy(update={"photographs": 200_000})
    tables = read_toml(path)
    before = parse(tables)
    scaled = scale(tables, before, budget, 8400, 1200)
    after = parse(scaled.tables)
    shown = sum(stage.epochs * epoch_length(stage, 8400, 1200) for stage in after.stages.values())
    assert shown == pytest.approx(200_000, rel=0.25)
    for name, stage in after.stages.items():
        assert stage.size[0] * stage.size[1] == pytest.approx(budget.pixels, rel=0.05)
        assert stage.size[0] / stage.size[1] == pytest.approx(
            before.stages[name].size[0] / before.stages[name].size[1], rel=0.05
        )
        assert stage.backbone == "tf_efficientnet_lite2" and stage.weights == "package" and stage.lr == budget.lr
        assert any(change.startswith(f"{name}: {before.stages[name].backbone} → ") for change in scaled.changes)
        assert stage.loss == before.stages[name].loss and stage.augment == before.stages[name].augment
    assert {name: after.augment[name] for name in before.augment} == before.augment


def test_a_budget_never_enlarges_and_keeps_schedules_in_proportion() -> None:
    tables = {"stages": {"mask": {"backbone": "resnet18", "size": [64, 48], "epochs": 20, "lr": 1e-4,
                                  "schedule_args": {"num_epochs": 10, "min_lr": 1e-6}}}}  # fmt: skip
    scaled = scale(tables, parse(tables), Budget(photographs=1000, pixels=16128, lr=1e-3), 100, 20)
    stage = parse(scaled.tables).stages["mask"]
    assert stage.size == (64, 48) and stage.epochs == 10 and stage.backbone == "resnet18"
    assert stage.schedule_args == {"num_epochs": 5, "min_lr": pytest.approx(1e-5)}
