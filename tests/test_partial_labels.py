"""A dataset in which some labels are unknown, from check to audit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, call, succeed

from facecade.base.errors import FacecadeError
from facecade.faces.source import read_source
from facecade.faces.table import classes
from facecade.report.nested import NestedPredictions
from facecade.runs.fits import require_labelled_folds
from facecade.runs.run import open_run


@pytest.fixture(scope="module")
def partial(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of the drawn people: a mask in four of five images, a gender of six in seven people, an age of three in
    four; one mask state occurs only where the age is unknown."""
    table = read_source(drawn / "train").table
    number = pd.factorize(table["person"])[0]
    table["path"] = [str(drawn / "train" / path) for path in table["path"]]
    table["age"] = table["age"].mask((number % 4 == 3) | (table["mask"] == "incorrect"))
    table["gender"] = table["gender"].mask(number % 7 == 6, "")
    table["mask"] = table["mask"].mask(np.arange(len(table)) % 5 == 0, "")
    folder = tmp_path_factory.mktemp("partial")
    table[["path", "person", "mask", "gender", "age"]].to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(partial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fitted run on it."""
    artifacts = tmp_path_factory.mktemp("run")
    begin = ["--data", partial, "--recipe", "recipes/demo.toml", "--artifacts", artifacts]
    sampled = [
        "--set",
        "balance=0.5",
        "--set",
        "per_person=6",
        "--set",
        "copies_of_old=1",
        "--set",
        "stages.joint.patience=1",
    ]
    result = call("fit-stage", "all", *begin, *TINY, *sampled)
    assert result.exit_code == 0, result.stderr
    assert "labels: mask 134, gender 147, age 108 of 168 images" in result.stderr
    result = call("fit-meta", "--artifacts", artifacts)
    assert result.exit_code == 0, result.stderr
    assert "of 168 images that have all three labels" in result.stderr
    assert "no image is incorrect: classes 6, 7, 8, 9, 10, 11 cannot be learned" in result.stderr
    return artifacts


def test_stages_are_trained_on_the_images_with_their_label(run: Path) -> None:
    table = open_run(run).table
    known = {"mask": table["mask"] != "", "gender": table["gender"] != "", "age-male": table["age"].notna()}
    for stage, rows in known.items():
        for fold in range(3):
            record = json.loads((run / f"stages/{stage}/fold{fold}/meta.json").read_text())
            assert record["images"] == (rows & (table["fold"] != fold)).sum()
            assert (
                np.load(run / f"stages/{stage}/fold{fold}/outputs.npz")["rows"].tolist()
                == np.flatnonzero(table["fold"] == fold).tolist()
            ), "images without the label are predicted too"


def test_the_combiner_is_fitted_and_scored_on_images_with_all_labels(run: Path) -> None:
    label = classes(open_run(run).table)
    record = json.loads((run / "combiner/meta.json").read_text())
    assert record["images"] == (label >= 0).sum() == len(np.load(run / "combiner/nested.npz")["label"]) < len(label)
    nested = NestedPredictions.read(run)
    assert (classes(nested.table) == nested.label).all() and not np.isnan(nested.years).any()
    assert all(value["value"] == value["value"] for value in record["nested_choice"].values())


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_pages_show_no_unknown_number(run: Path, drawn: Path, tmp_path: Path) -> None:
    output = ["--artifacts", run, "--output", tmp_path]
    succeed("infer", drawn / "eval", *output, "--engine", "torch")
    succeed("evaluate", tmp_path / "submission.csv", drawn / "eval/eval_labels.csv", "--output", tmp_path)
    succeed("report", *output)
    succeed("audit", *output)
    texts = [(tmp_path / name).read_text() for name in ("report.html", "MODEL_CARD.md", "audit.html", "audit.csv")]
    assert not any(" nan" in text or ">nan" in text or "nan]" in text for text in texts)
    images = (classes(open_run(run).table) >= 0).sum()
    assert f"{images} images of" in texts[0] and f"{images} images of" in texts[1] and f"{images} images of" in texts[2]
    paths = set(pd.read_csv(tmp_path / "audit.csv")["paths"].str.split(";").explode())
    table = open_run(run).table
    assert paths and paths <= set(table["path"][classes(table) >= 0])


def test_such_a_run_lists_and_labels(run: Path, drawn: Path) -> None:
    assert succeed("ls", "--artifacts", run).count("3 fitted") == 5
    record = json.loads(succeed("pseudo-label", drawn / "eval", "--artifacts", run, "--confidence", 0.05, "--json"))
    assert 0 <= record["held_out"]["accuracy"] <= 1 and record["held_out"]["share"] == 1


def test_eda_of_such_data(partial: Path, tmp_path: Path) -> None:
    result = json.loads(succeed("eda", partial, "--recipe", "recipes/demo.toml", "--output", tmp_path, "--json"))
    assert result["problems"] == [] and result["ages"]["people"] == 18
    assert ">nan" not in (tmp_path / "eda.html").read_text()


def test_every_fold_needs_images_with_all_labels(run: Path) -> None:
    opened = open_run(run)
    table = opened.table.assign(age=opened.table["age"].mask(opened.table["fold"] == 1))
    with pytest.raises(FacecadeError, match="only 2 of 3 folds have images with all three labels") as caught:
        require_labelled_folds(replace(opened, table=table))
    assert "label more people" in caught.value.hint
