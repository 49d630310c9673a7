"""Every published recipe fits, stacks and infers, on drawn faces of low resolution."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import call, succeed

from facecade.faces.source import read_source
from facecade.recipe_file import parse, read_toml

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes/published").glob("*.toml"))


@pytest.fixture(scope="module")
def few(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two images of each drawn person."""
    table = read_source(drawn / "train").table.groupby("person").head(7).groupby("person").sample(2, random_state=0)
    table["path"] = [str(drawn / "train" / path) for path in table["path"]]
    path = tmp_path_factory.mktemp("few") / "few.csv"
    table[["path", "person", "mask", "gender", "age"]].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def eight_images(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight images to infer."""
    folder = tmp_path_factory.mktemp("eight_images")
    for image in sorted((drawn / "eval/images").iterdir())[:8]:
        shutil.copy(image, folder)
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_published_recipe_runs(path: Path, few: Path, eight_images: Path, tmp_path: Path) -> None:
    """One epoch of a few steps for each stage and fold, at 80×80 pixels, without pretrained weights; all else unchanged."""
    run = ["--artifacts", tmp_path / "a"]
    small = ["folds=3", "epochs=1", "size=[80, 80]", "batch_size=8", "face.size=[80, 80]"]
    small += ["combiner.anchors=50", "combiner.rounds=2", "combiner.components=4"]
    settings = [word for setting in small for word in ("--set", setting)]
    fit = ["--data", few, "--recipe", path, "--weights", "none", "--jobs", 1, *settings]
    text = succeed("fit-stage", "all", *run, *fit)
    assert all(f"{stage}: " in text for stage in parse(read_toml(path)).stages)
    assert "nested" in succeed("fit-meta", *run).lower()
    succeed("infer", eight_images, *run, "--output", tmp_path)
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert len(predictions) == 8 and predictions["ans"].between(0, 17).all()


TWICE = """
folds = 3
[face]
detector = "centre"
size = [32, 32]
fallback = 1.0
[defaults]
backbone = "test_efficientnet"
size = [32, 32]
epochs = 1
per_person = 2
views = ["plain"]
[stages.flat]
[stages.flat-2]
backbone = "test_resnet"
[stages.joint]
loss = "dldl"
[stages.joint-2]
loss = "dldl"
[combiner]
anchors = 50
rounds = 2
components = 4
"""


def test_several_stages_of_a_kind_vote(drawn: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "twice.toml"
    recipe.write_text(TWICE)
    where = ["--artifacts", tmp_path / "a"]
    succeed("fit-stage", "all", "--data", drawn / "train", "--recipe", recipe, *where, "--jobs", 1)
    weights = [
        (tmp_path / f"a/stages/{stage}/fold0/weights.safetensors").read_bytes() for stage in ("joint", "joint-2")
    ]
    assert weights[0] != weights[1], "each has its own seed"
    succeed("fit-meta", *where)
    succeed("infer", drawn / "eval", *where, "--output", tmp_path / "o")
    assert len(pd.read_csv(tmp_path / "o/submission.csv")) == len(pd.read_csv(drawn / "eval/info.csv"))


def test_stages_of_a_kind_with_different_outputs_are_refused(drawn: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "twice.toml"
    recipe.write_text(TWICE.replace('[stages.joint-2]\nloss = "dldl"', '[stages.joint-2]\nloss = "l1"'))
    result = call("fit-stage", "all", "--data", drawn / "train", "--recipe", recipe, "--artifacts", tmp_path / "a")
    assert result.exit_code == 1 and "joint-2 has other outputs" in result.stderr
