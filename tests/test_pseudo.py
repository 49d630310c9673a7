"""Pseudo-labels: a run labels images for another run to train on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, arrays, call, succeed

from facecade.combiner.estimators import SoftVote
from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of, decode
from facecade.faces.pseudo import make_pseudo_labels
from facecade.faces.table import classes
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import open_run


@pytest.fixture(scope="module")
def student(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of a run trained on drawn faces and on the fitted run's pseudo-labels of the eval set."""
    succeed("pseudo-label", drawn / "eval", "--artifacts", fitted, "--confidence", 0.05)
    artifacts = tmp_path_factory.mktemp("student")
    begin = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--pseudo", fitted]
    succeed("fit-stage", "mask", *begin, "--artifacts", artifacts, *TINY)
    return artifacts


def test_labels_have_the_predicted_class_for_any_years() -> None:
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(18), 200)
    years = np.where(rng.random(200) < 0.2, np.nan, rng.uniform(1, 95, 200))
    labels = make_pseudo_labels(probability, years)
    mask, gender, band = decode(probability.argmax(1))
    assert (labels["mask"] == np.array(MASKS)[mask]).all() and (labels["gender"] == np.array(GENDERS)[gender]).all()
    assert (band_of(labels["age"]) == band).all() and len(BANDS) == len(set(band))
    within_band = ~np.isnan(years) & (band_of(years) == band) & (np.abs(years[:, None] - [30, 60]).min(1) > 0.5)
    assert within_band.any() and np.allclose(labels["age"][within_band], years[within_band], atol=0.01)


def test_record_has_counts_and_held_out_accuracy(student: Path, fitted: Path, drawn: Path) -> None:
    record = json.loads(succeed("pseudo-label", drawn / "eval", "--artifacts", fitted, "--confidence", 0.05, "--json"))
    labels = pd.read_csv(fitted / "pseudo/labels.csv")
    assert record["new"] == len(pd.read_csv(drawn / "eval/info.csv")) == record["offered"]
    assert record["labels"] == labels["fold"].value_counts().sort_index().tolist()
    nested = arrays(fitted / "combiner/nested.npz")
    prediction = nested["predictions"][
        nested["methods"].tolist().index("soft vote")
    ]  # the same vote, with the same nesting
    assert record["held_out"]["share"] == 1  # the largest of 18 probabilities is at least 0.056
    assert record["held_out"]["accuracy"] == pytest.approx((prediction == nested["label"]).mean())


def test_printed_counts_say_what_they_count(student: Path, fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """Images read, images with a label in some fold, and labels."""
    run = shutil.copytree(fitted, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    most = pd.read_csv(run / "pseudo/labels.csv").groupby("path")["confidence"].max()
    printed = succeed("pseudo-label", drawn / "eval", "--artifacts", run, "--confidence", most.median())
    labels = pd.read_csv(run / "pseudo/labels.csv")
    images, read = labels["path"].nunique(), len(pd.read_csv(drawn / "eval/info.csv"))
    assert images < read and images < len(labels)
    counts = f"{read} images of {drawn / 'eval'} read, {images} labelled in at least one fold, {len(labels)} labels over 3 folds"
    assert counts in printed.splitlines()[0]


def test_fold_is_labelled_without_its_held_out_people(fitted: Path) -> None:
    """Other labels for those people do not change the vote of the fold, but that of another fold."""
    run = open_run(fitted)
    stage_outputs = out_of_fold_outputs(run)
    label, fold = classes(run.table), run.table["fold"].to_numpy()

    def vote(label: np.ndarray, held_out: int) -> np.ndarray:
        others = np.flatnonzero(fold != held_out)
        return SoftVote.fit(stage_outputs.take(others), label[others]).probability(stage_outputs.take(np.arange(20)))

    changed = np.where(fold == 1, (label + 7) % 18, label)
    np.testing.assert_array_equal(vote(label, 1), vote(changed, 1))
    assert np.abs(vote(label, 0) - vote(changed, 0)).max() > 1e-3


def test_pseudo_labels_are_trained_on_and_not_scored(student: Path, fitted: Path) -> None:
    labels = pd.read_csv(fitted / "pseudo/labels.csv")
    for fold in range(3):
        folder = student / f"stages/mask/fold{fold}"
        record = json.loads((folder / "meta.json").read_text())
        assert record["extra_data"] == (labels["fold"] == fold).sum()
        table = pd.read_csv(student / "table.csv")
        assert record["images"] == (table["fold"] != fold).sum() + record["extra_data"]
        assert arrays(folder / "outputs.npz")["rows"].tolist() == np.flatnonzero(table["fold"] == fold).tolist()
    assert "pseudo-labels" in succeed("ls", "--artifacts", student)


def test_pseudo_labels_change_the_signature(student: Path, fitted: Path) -> None:
    assert open_run(student).signature("mask") != open_run(fitted).signature("mask")


def test_pseudo_labels_of_other_folds_are_refused(student: Path, fitted: Path, drawn: Path, tmp_path: Path) -> None:
    begin = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--pseudo", fitted, "--artifacts", tmp_path]
    result = call("fit-stage", "mask", *begin, *TINY, "--set", "seed=9")
    assert result.exit_code == 1 and "other folds" in result.stderr and "same data, folds and seed" in result.stderr


def test_years_are_not_trained_on_age_bands(student: Path, tmp_path: Path) -> None:
    """A run that predicts only age bands writes one typical age for each band."""
    run = tmp_path / "run"
    shutil.copytree(student, run)
    record = run / "extra-data/pseudo/labels.json"
    record.write_text(record.read_text().replace('"years": true', '"years": false'))
    result = call("fit-stage", "age-male", "--artifacts", run, "--jobs", 1)
    assert result.exit_code == 1 and "age-male would train on years made from them" in result.stderr


def test_impossible_requests_are_refused(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    artifacts = ["--artifacts", fitted]
    result = call("pseudo-label", drawn / "eval", *artifacts, "--confidence", 1)
    assert result.exit_code == 1 and "give a lower --confidence" in result.stderr
    result = call("pseudo-label", drawn / "train", *artifacts, "--confidence", 0.05)
    assert result.exit_code == 1 and "did not train on" in result.stderr
    result = call("fit-stage", "mask", "--data", drawn / "train", "--pseudo", tmp_path, "--artifacts", tmp_path / "a")
    assert result.exit_code == 1 and "python cli.py pseudo-label" in result.stderr
