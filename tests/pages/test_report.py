"""The report and the model card show the artifacts' numbers and all their sections."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

from facecade.faces.words import class_in_words
from facecade.report.nested import NestedPredictions
from facecade.report.results import score_interval


@pytest.fixture(scope="module")
def written(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's report, with the evaluation of its predictions."""
    output = tmp_path_factory.mktemp("report")
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", output)
    succeed("evaluate", output / "submission.csv", drawn / "eval/eval_labels.csv", "--output", output)
    printed = succeed("report", "--artifacts", fitted, "--output", output)
    assert printed.split()[:2] == [str(output / "report.html"), str(output / "MODEL_CARD.md")]
    return output


def test_numbers_are_those_of_the_artifacts(written: Path, fitted: Path) -> None:
    page, card = ((written / name).read_text() for name in ("report.html", "MODEL_CARD.md"))
    record = json.loads((fitted / "combiner/meta.json").read_text())
    scored = json.loads((written / "evaluation.json").read_text())["score"]
    for name, value in record["nested_choice"].items():
        assert score_interval(name, value) in card and score_interval(name, value) in page
        assert score_interval(name, scored[name]) in card and score_interval(name, scored[name]) in page
    for method, values in record["nested"].items():
        assert f"<td>{method}</td><td>{score_interval('macro-F1', values['macro-F1'])}</td>" in page
    for cuts in record["cuts"].values():
        assert all(f"cut {cut:.2f}" in page for cut in cuts)
    for meta in NestedPredictions.read(fitted).fits:
        assert f"<td>{meta.stage} {meta.fold}</td>" in page


def test_every_section_is_there_and_the_page_is_self_contained(written: Path, fitted: Path) -> None:
    page = (written / "report.html").read_text()
    for section in ("Scores", "Groups", "Classes", "Confusions", "Ages", "Calibration", "Contributions"):
        assert f"<h2>{section}</h2>" in page
    assert all(f"By {kind}" in page for kind in ("mask", "gender", "age band", "brightness", "sharpness"))
    for forbidden in ("<script", 'src="http', 'href="http', "url(http", ">nan", "nan]"):
        assert forbidden not in page
    nested = NestedPredictions.read(fitted)
    wrong = nested.table["person"][nested.prediction != nested.label].nunique()
    assert page.count("attention of ") == page.count("data:image/jpeg") // 2 == min(wrong, 24)


def test_worst_errors_come_first(written: Path, fitted: Path) -> None:
    nested, page = NestedPredictions.read(fitted), (written / "report.html").read_text()
    wrong = np.flatnonzero(nested.prediction != nested.label)
    worst = wrong[nested.probability[wrong, nested.label[wrong]].argmin()]
    first = page[page.index("The worst errors</h2>") :]
    first = first[first.index("<figcaption>") : first.index("</figcaption>")]
    assert "/".join(Path(nested.table["path"][worst]).parts[-2:]) in first
    predicted, recorded = (class_in_words(int(values[worst])) for values in (nested.prediction, nested.label))
    assert f"recorded: {recorded}" in first and f"predicted: {predicted}" in first


def test_a_missing_run_and_a_missing_combiner_are_errors(fitted: Path, tmp_path: Path) -> None:
    result = call("report", "--artifacts", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.stderr
    run = shutil.copytree(fitted, tmp_path / "run")
    shutil.rmtree(run / "combiner")
    result = call("report", "--artifacts", run, "--output", tmp_path)
    assert result.exit_code == 1 and "the combiner is missing" in result.stderr and "fit-meta" in result.stderr
    assert not list(tmp_path.glob("*.html"))


def test_the_model_card_names_the_people_and_their_ages(written: Path, fitted: Path) -> None:
    card, table = (written / "MODEL_CARD.md").read_text(), pd.read_csv(fitted / "table.csv")
    assert f"168 images of 24 people, aged {table['age'].min():.0f} to {table['age'].max():.0f}." in card
    assert "## Intended use" in card and "Not for" in card and "## Gaps between groups" in card
