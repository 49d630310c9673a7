"""Recipes compared on the same folds and scaled to the same compute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import arrays, call, scenes, succeed, tracked
from scipy.special import softmax

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.comparison.budget import Budget, read_budget, scale
from facecade.comparison.compare import ComparisonSettings, _run
from facecade.comparison.repeats import with_repeats
from facecade.faces.reading import make_reading
from facecade.faces.source import read_source
from facecade.recipe_file import parse, read_toml
from facecade.report.leaderboard import Comparison, best_published, page
from facecade.runs.run import open_run
from facecade.stages import make_stage
from facecade.stages.cost import training_flops

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


def test_people_who_share_images_are_joined_in_comparisons_and_searches(two: list[Path], tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 18, copies={"p7-wear": "p1-normal"})
    same = tmp_path / "same.csv"
    same.write_text("person,other,same\np1,p7,yes\n")
    words = ["compare", two[0], "--data", data, "--folds", 3, "--artifacts", tmp_path / "a", "--output", tmp_path / "o"]
    refused = call(*words)
    assert refused.exit_code == 1 and "are equal files" in refused.stderr
    for _ in range(2):  # the second keeps the run
        succeed(*words, "--same-person", same)
        run = open_run(tmp_path / "a/first")
        assert run.table["person"].nunique() == 17 and run.same_person
    record = (tmp_path / "a/first/run.json").stat().st_mtime_ns
    same.write_text("person,other,same\np1,p7,no\n")
    succeed(*words, "--same-person", same)
    assert open_run(tmp_path / "a/first").table["person"].nunique() == 18
    assert (tmp_path / "a/first/run.json").stat().st_mtime_ns > record
    space = tmp_path / "space.toml"
    space.write_text("lr = { low = 0.001, high = 0.01, log = true }\n")
    search = ["tune", "flat", "--data", data, "--recipe", two[0], "--set", "folds=3", "--trials", 1, "--fold", 0]
    search += ["--space", space, "--artifacts", tmp_path / "t"]
    assert "are equal files" in call(*search).stderr
    succeed(*search, "--same-person", same)


def test_two_recipes_end_to_end_and_again(two: list[Path], drawn: Path, tmp_path: Path) -> None:
    where = ["--artifacts", tmp_path / "a", "--output", tmp_path / "o", "--folds", 3, "--jobs", 1]
    evaluation = ["--eval", drawn / "eval", "--labels", drawn / "eval/eval_labels.csv"]
    store = tmp_path / "mlflow.db"
    words = ["--data", drawn / "train", *where, *evaluation, "--mlflow", store, "--json"]
    result = json.loads(succeed("compare", *two, *words))
    assert [run.info.run_name for run in tracked(store)].count("combiner") == 2 and len(tracked(store)) == 2 + 6
    assert not result["failed"] and {row["recipe"] for row in result["entries"]} == {"first", "second"}
    assert {row["kind"] for row in result["entries"]} == {"as published", "combined"}
    values = [row["nested"]["macro-F1"]["value"] for row in result["entries"]]
    assert values == sorted(values, reverse=True) and result["entries"][0]["to_best"]["value"] == 0
    for row in result["entries"]:
        assert row["to_best"]["value"] == pytest.approx(row["nested"]["macro-F1"]["value"] - values[0], abs=1e-5)
        gap = row["eval"]["macro-F1"]["value"] - result["entries"][0]["eval"]["macro-F1"]["value"]
        assert row["eval_to_best"]["value"] == pytest.approx(gap, abs=1e-5)
        assert row["eval"]["accuracy"]["value"] > 0 and row["parameters"] > 0 and row["images_per_second"] > 0
    assert len({row["folds_hash"] for row in result["entries"]}) == 1
    assert len(pd.read_csv(tmp_path / "o/leaderboard.csv")) == 4
    assert "| 1 | " in (tmp_path / "o/leaderboard.md").read_text()
    with_budget = {**result, "budget": {"teraflops": 20, "pixels": 16128, "weights": "package"}}

    def comparison(result: Mapping[str, Any], command: str) -> Comparison:
        return Comparison(result, command, ["abc", "def"], "m")

    text = page([comparison(with_budget, "python cli.py compare")], "first")
    assert "averaged" not in text
    rival = next(row for row in result["entries"] if row["recipe"] == "second" and row["kind"] == "combined")
    assert "Machine: m. Commit: abc, def. `python cli.py compare`" in text
    assert f"| best other system, combined: `second` | {rival['nested']['macro-F1']['value']:.3f} " in text
    faces = {**result, "budget": {**with_budget["budget"], "weights": "weights/w.safetensors"}}
    others = [comparison(faces, "c --budget faces"), comparison({**with_budget, "repeats": 2}, "c --repeats 2")]
    text = page([comparison(with_budget, "c"), *others], "first")
    assert "starts from `weights/w.safetensors`, as `first` does" in text and "c --budget faces" in text
    assert "## The published recipes from ImageNet, every network 2 times, averaged" in text
    assert text.count("| 1 | ") == 3 and best_published(result, "first", 2) == ["second"]
    files = [*(tmp_path / "a").rglob("weights.safetensors"), *(tmp_path / "a").rglob("predictions.csv")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = call("compare", *two, *words)
    assert len(tracked(store)) == 2 + 6, "existing fits are not tracked again"
    assert again.exit_code == 0 and again.stderr.count("fitted already") == 6
    assert before == {path: path.stat().st_mtime_ns for path in files} and len(files) == 10
    assert json.loads(again.stdout)["entries"] == result["entries"]


def test_repeated_networks_differ_and_are_averaged(two: list[Path], drawn: Path, tmp_path: Path) -> None:
    where = ["--artifacts", tmp_path / "a", "--output", tmp_path / "o", "--folds", 3, "--jobs", 1]
    words = ["--data", drawn / "train", *where, "--json"]
    once = json.loads(succeed("compare", two[0], *words))
    twice = json.loads(succeed("compare", two[0], *words, "--repeats", 2))
    assert (once["repeats"], twice["repeats"]) == (1, 2)
    assert [row["models"] for row in once["entries"] + twice["entries"]] == [3, 3, 6, 6]
    folders = [tmp_path / "a/first/stages" / stage / "fold0" for stage in ("flat", "flat-2")]
    first, second = (arrays(folder / "outputs.npz") for folder in folders)
    assert (first["rows"] == second["rows"]).all() and np.abs(first["logits"] - second["logits"]).max() > 1e-3
    run = open_run(tmp_path / "a/first")
    nested = arrays(run.folder / "combiner/nested.npz")
    prediction = nested["predictions"][list(nested["methods"]).index("as trained")][first["rows"]]
    mean = sum(softmax(each["logits"], axis=1) for each in (first, second))
    assert (prediction == mean.argmax(1)).all(), "the published prediction is the soft vote of both"


def test_copy_starts_from_the_copy_of_its_start_stage() -> None:
    stage = {"backbone": "resnet10t"}
    tables = {"stages": {"joint": stage, "joint-2": stage, "gender": {**stage, "weights": "stage:joint-2"}}}
    stages = with_repeats(tables, 2)["stages"]
    assert list(stages) == ["joint", "joint-2", "gender", "joint-3", "joint-4", "gender-2"]
    assert stages["gender-2"]["weights"] == "stage:joint-4" and parse(with_repeats(tables, 3))
    assert with_repeats(tables, 1) == tables


def test_failed_recipe_is_named_and_the_other_is_ranked(two: list[Path], drawn: Path, tmp_path: Path) -> None:
    two[1].write_text(SMALL.format(loss="focl"))
    where = ["--artifacts", tmp_path / "a", "--output", tmp_path / "o", "--folds", 3, "--jobs", 1]
    result = call("compare", *two, "--data", drawn / "train", *where)
    assert result.exit_code == 1 and "did you mean focal" in result.stdout and "| 1 | first |" in result.stdout
    result = call("compare", two[1], "--data", drawn / "train", *where)
    assert result.exit_code == 1 and "did you mean focal" in result.stdout and "|" not in result.stdout


def test_missing_recipe_is_an_error_before_training(two: list[Path], drawn: Path, tmp_path: Path) -> None:
    result = call("compare", *two, tmp_path / "third.toml", "--data", drawn / "train", "--artifacts", tmp_path / "a")
    assert result.exit_code == 1 and "third.toml does not exist" in result.stderr
    assert not list(tmp_path.glob("a/[!.]*")), "nothing but the lock"


def table_of(people: int) -> pd.DataFrame:
    """A table of `people` people with seven images each, of three ages in turn."""
    rows = []
    for person in range(people):
        gender, age = ("male", "female")[person % 2], (25.0, 45.0, 65.0)[person // 2 % 3]
        rows += [
            (f"{person}/{mask}", str(person), mask, gender, age) for mask in ["wear"] * 5 + ["incorrect", "normal"]
        ]
    return pd.DataFrame(rows, columns=["path", "person", "mask", "gender", "age"])


def flops(tables: dict[str, Any], table: pd.DataFrame) -> float:
    """Operations of training a recipe on one fold."""
    recipe = parse(tables)
    stage_objects = {name: make_stage(name, stage.loss, stage.auxiliary) for name, stage in recipe.stages.items()}
    total = sum(training_flops(stage_objects[name], stage, table) for name, stage in recipe.stages.items())
    return total * (recipe.folds - 1) / recipe.folds


@pytest.mark.parametrize(
    "path",
    [ROOT / "recipes/quick.toml", *sorted((ROOT / "recipes/published").glob("*.toml"))],
    ids=lambda path: path.stem,
)
def test_budget_gives_every_recipe_the_same_compute(path: Path) -> None:
    budget, table = read_budget(ROOT / "recipes/budgets/cpu.toml"), table_of(1200)
    tables = read_toml(path)
    before = parse(tables)
    scaled = scale(tables, before, budget, table)
    after = parse(scaled.tables)
    assert flops(scaled.tables, table) == pytest.approx(budget.teraflops * 1e12, rel=0.15)
    for name, stage in after.stages.items():
        old = before.stages[name]
        assert stage.size[0] * stage.size[1] <= budget.pixels * 1.05
        assert stage.size[0] / stage.size[1] == pytest.approx(old.size[0] / old.size[1], rel=0.05)
        assert stage.loss == old.loss and stage.augment == old.augment
        if path.stem == "quick":
            assert (stage.backbone, stage.lr, stage.weights) == (old.backbone, old.lr, old.weights)
        else:
            assert stage.backbone == "tf_efficientnet_lite2" and stage.weights == "package"
            assert stage.lr == budget.lr and stage.batch_size == budget.batch_size
        text = next(change for change in scaled.changes if change.startswith(f"{name}: "))
        for key in ("backbone", "weights", "size", "epochs", "lr", "batch_size"):
            assert (f"{key.replace('_', ' ')} " in text) == (getattr(stage, key) != getattr(old, key)), (key, text)
        assert ("face " in "; ".join(scaled.changes)) == (after.face.size != before.face.size)
    assert {name: after.augment[name] for name in before.augment} == before.augment


def test_unknown_key_of_a_budget_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text("terraflops = 2\npixels = 3\n")
    with pytest.raises(FacecadeError, match=r"2 problem(?s:.)*did you mean teraflops") as error:
        read_budget(tmp_path / "small.toml")
    assert "pixels: input should be greater than or equal to 256, not 3" in str(error.value)


def test_budget_never_enlarges_and_scales_schedules() -> None:
    tables = {"stages": {"mask": {"backbone": "resnet18", "size": [64, 48], "epochs": 20, "lr": 1e-4,
                                  "schedule_args": {"num_epochs": 10, "min_lr": 1e-6}}}}  # fmt: skip
    half = flops(tables, table_of(24)) / 2 / 1e12
    budget = Budget(teraflops=half, pixels=16128, lr=1e-3, backbones={"resnet18": "resnet10t"})
    kept = parse(scale(tables, parse(tables), budget.model_copy(update={"backbones": {}}), table_of(24)).tables)
    assert kept.stages["mask"].size == (64, 48) and kept.stages["mask"].epochs == 10
    assert kept.stages["mask"].backbone == "resnet18" and kept.stages["mask"].lr == 1e-4
    stage = parse(scale(tables, parse(tables), budget, table_of(24)).tables).stages["mask"]
    assert stage.backbone == "resnet10t" and stage.lr == 1e-3
    assert stage.schedule_args == {"num_epochs": round(stage.epochs / 2), "min_lr": pytest.approx(1e-5)}


def test_small_budget_takes_fewer_images_per_person() -> None:
    tables = {"stages": {"mask": {"backbone": "resnet10t", "size": [32, 32], "epochs": 2}}}
    table = table_of(24)
    tiny = Budget(teraflops=flops(tables, table) / 7 / 1e12)
    stage = parse(scale(tables, parse(tables), tiny, table).tables).stages["mask"]
    assert (stage.epochs, stage.per_person) == (1, 2)  # a seventh of two epochs of seven


def test_a_run_of_other_labels_is_begun_anew(two: list[Path], tmp_path: Path) -> None:
    data = scenes(tmp_path / "data", 12)

    def labels(*maps: str) -> str:
        settings = ComparisonSettings(data, 3, 1, None, None, reading=make_reading(maps))
        source = read_source(data, settings.reading)
        return _run(two[0], tmp_path / "run", source, settings, Machine())[0].labels_hash

    first = labels()
    assert labels() == first and labels("mask.normal=wear") != first
