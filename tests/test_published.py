"""Every published recipe fits, stacks and infers, on drawn faces and a few pixels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import succeed

from faces.table import read_source
from recipe import parse, read_toml

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes/published").glob("*.toml"))


@pytest.fixture(scope="module")
def few(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two photographs of each drawn person."""
    table = read_source(drawn / "train").table.groupby("person").head(7).groupby("person").sample(2, random_state=0)
    table["path"] = [str(drawn / "train" / path) for path in table["path"]]
    path = tmp_path_factory.mktemp("few") / "few.csv"
    table[["path", "person", "mask", "gender", "age"]].to_csv(path, index=False)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_published_recipe_runs(path: Path, few: Path, drawn: Path, tmp_path: Path) -> None:
    """One epoch of a few steps for each stage and fold, at 80×80 pixels and without weights; all else as written."""
    run = ["--artifacts", tmp_path / "a"]
    small = ["folds=3", "epochs=1", "size=[80, 80]", "batch_size=8", "face.size=[80, 80]"]
    small += ["combiner.anchors=50", "combiner.rounds=2", "combiner.components=4"]
    settings = [word for setting in small for word in ("--set", setting)]
    fit = ["--data", few, "--recipe", path, "--weights", "none", "--jobs", 1, *settings]
    said = succeed("fit-stage", "all", *run, *fit)
    assert all(f"{stage}: " in said for stage in parse(read_toml(path)).stages)
    assert "nested" in succeed("fit-meta", *run).lower()
    succeed("infer", drawn / "eval", *run, "--output", tmp_path)
    answers = pd.read_csv(tmp_path / "submission.csv")
    assert len(answers) == 84 and answers["ans"].between(0, 17).all()
