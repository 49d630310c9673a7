"""Labels that a run gives to images without, for another run to learn from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, call, succeed

from facecade.base.artifact import read_arrays
from facecade.combiner.estimators import SoftVote
from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of, decode
from facecade.faces.pseudo import labels_from
from facecade.faces.table import classes
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import open_run


@pytest.fixture(scope="module")
def taught(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's artifacts: fitted on drawn faces, and on what the fitted run says of the eval set."""
    succeed("pseudo-label", drawn / "eval", "--artifacts", fitted, "--confidence", 0.05)
    student = tmp_path_factory.mktemp("student")
    begin = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--pseudo", fitted]
    succeed("fit-stage", "mask", *begin, "--artifacts", student, *TINY)
    return student


def test_labels_agree_with_the_class_whatever_the_years() -> None:
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(18), 200)
    years = np.where(rng.random(200) < 0.2, np.nan, rng.uniform(1, 95, 200))
    said = labels_from(probability, years)
    mask, gender, band = decode(probability.argmax(1))
    assert (said["mask"] == np.array(MASKS)[mask]).all() and (said["gender"] == np.array(GENDERS)[gender]).all()
    assert (band_of(said["age"]) == band).all() and len(BANDS) == len(set(band))
    inside = ~np.isnan(years) & (band_of(years) == band) & (np.abs(years[:, None] - [30, 60]).min(1) > 0.5)
    assert inside.any() and np.allclose(said["age"][inside], years[inside], atol=0.01)


def test_a_run_says_how_many_and_how_good(taught: Path, fitted: Path, drawn: Path) -> None:
    record = json.loads(succeed("pseudo-label", drawn / "eval", "--artifacts", fitted, "--confidence", 0.05, "--json"))
    labels = pd.read_csv(fitted / "pseudo/labels.csv")
    assert record["new"] == len(pd.read_csv(drawn / "eval/info.csv")) == record["offered"]
    assert record["labels"] == labels["fold"].value_counts().sort_index().tolist()
    nested = read_arrays(fitted / "combiner/nested.npz")
    answer = nested["predictions"][nested["methods"].tolist().index("soft vote")]  # the same vote, nested the same way
    assert record["held_out"]["share"] == 1  # eighteen probabilities: the largest is at least .056
    assert record["held_out"]["accuracy"] == pytest.approx((answer == nested["label"]).mean())


def test_a_fold_is_labelled_without_the_people_it_holds_out(fitted: Path) -> None:
    """Other labels for those people change nothing that the fold's combiner says, and other folds' do."""
    run = open_run(fitted)
    stage_outputs = out_of_fold_outputs(run)
    label, fold = classes(run.table), run.table["fold"].to_numpy()

    def said(label: np.ndarray, held_out: int) -> np.ndarray:
        others = np.flatnonzero(fold != held_out)
        return SoftVote.fit(stage_outputs.take(others), label[others]).probability(stage_outputs.take(np.arange(20)))

    wrong = np.where(fold == 1, (label + 7) % 18, label)
    np.testing.assert_array_equal(said(label, 1), said(wrong, 1))
    assert np.abs(said(label, 0) - said(wrong, 0)).max() > 1e-3


def test_the_student_learns_from_them_and_is_scored_without(taught: Path, fitted: Path) -> None:
    labels = pd.read_csv(fitted / "pseudo/labels.csv")
    for fold in range(3):
        folder = taught / f"stages/mask/fold{fold}"
        record = json.loads((folder / "meta.json").read_text())
        assert record["extra_data"] == (labels["fold"] == fold).sum()
        table = pd.read_csv(taught / "table.csv")
        assert record["images"] == (table["fold"] != fold).sum() + record["extra_data"]
        assert read_arrays(folder / "outputs.npz")["rows"].tolist() == np.flatnonzero(table["fold"] == fold).tolist()
    assert "pseudo-labels" in succeed("ls", "--artifacts", taught)


def test_it_is_another_fit_than_without(taught: Path, fitted: Path) -> None:
    assert open_run(taught).signature("mask") != open_run(fitted).signature("mask")


def test_other_folds_are_refused(taught: Path, fitted: Path, drawn: Path, tmp_path: Path) -> None:
    begin = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--pseudo", fitted, "--artifacts", tmp_path]
    result = call("fit-stage", "mask", *begin, *TINY, "--set", "seed=9")
    assert result.exit_code == 1 and "other folds" in result.stderr and "same data, folds and seed" in result.stderr


def test_years_are_not_learned_from_bands(taught: Path, tmp_path: Path) -> None:
    """A teacher of bands writes one typical age for each."""
    run = tmp_path / "run"
    shutil.copytree(taught, run)
    record = run / "extra-data/pseudo/labels.json"
    record.write_text(record.read_text().replace('"years": true', '"years": false'))
    result = call("fit-stage", "age-male", "--artifacts", run, "--jobs", 1)
    assert result.exit_code == 1 and "age-male would learn years from them" in result.stderr


def test_what_cannot_be_is_said(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    where = ["--artifacts", fitted]
    result = call("pseudo-label", drawn / "eval", *where, "--confidence", 1)
    assert result.exit_code == 1 and "give a lower --confidence" in result.stderr
    result = call("pseudo-label", drawn / "train", *where, "--confidence", 0.05)
    assert result.exit_code == 1 and "did not train on" in result.stderr
    result = call("fit-stage", "mask", "--data", drawn / "train", "--pseudo", tmp_path, "--artifacts", tmp_path / "a")
    assert result.exit_code == 1 and "python cli.py pseudo-label" in result.stderr
