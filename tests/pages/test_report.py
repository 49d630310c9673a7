"""The report and the card say what the artifacts say, and show what they must."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

from facecade.faces.labels import class_name
from facecade.report.nested import NestedPredictions
from facecade.report.results import interval_of


@pytest.fixture(scope="module")
def written(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's report, beside the score of its answers."""
    output = tmp_path_factory.mktemp("report")
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", output)
    succeed("evaluate", output / "submission.csv", drawn / "eval/eval_labels.csv", "--output", output)
    said = succeed("report", "--artifacts", fitted, "--output", output)
    assert said.split() == [str(output / "report.html"), str(output / "MODEL_CARD.md")]
    return output


def test_numbers_are_those_of_the_artifacts(written: Path, fitted: Path) -> None:
    page, card = ((written / name).read_text() for name in ("report.html", "MODEL_CARD.md"))
    record = json.loads((fitted / "combiner/meta.json").read_text())
    scored = json.loads((written / "evaluation.json").read_text())["score"]
    for name, value in record["nested_choice"].items():
        assert interval_of(name, value) in card and interval_of(name, value) in page
        assert interval_of(name, scored[name]) in card and interval_of(name, scored[name]) in page
    for way, values in record["nested"].items():
        assert f"<td>{way}</td><td>{interval_of('macro-F1', values['macro-F1'])}</td>" in page
    for cuts in record["cuts"].values():
        assert all(f"cut {cut:.2f}" in page for cut in cuts)
    for meta in NestedPredictions.read(fitted).fits:
        assert f"<td>{meta['stage']} {meta['fold']}</td>" in page


def test_every_part_is_there_and_nothing_from_elsewhere(written: Path, fitted: Path) -> None:
    page = (written / "report.html").read_text()
    for section in ("Scores", "Groups", "Classes", "Confusions", "Ages", "Calibration", "What tips the combiner"):
        assert f"<h2>{section}</h2>" in page
    assert all(f"By {kind}" in page for kind in ("mask", "gender", "age band", "brightness", "sharpness"))
    for never in ("<script", 'src="http', 'href="http', "url(http", ">nan", "nan]"):
        assert never not in page
    evidence = NestedPredictions.read(fitted)
    wrong = evidence.table["person"][evidence.prediction != evidence.label].nunique()
    assert page.count("attention of ") == page.count("data:image/jpeg") // 2 == min(wrong, 24)


def test_worst_errors_come_first(written: Path, fitted: Path) -> None:
    evidence, page = NestedPredictions.read(fitted), (written / "report.html").read_text()
    wrong = np.flatnonzero(evidence.prediction != evidence.label)
    worst = wrong[evidence.probability[wrong, evidence.label[wrong]].argmin()]
    first = page[page.index("The worst errors</h2>") :]
    first = first[first.index("<figcaption>") : first.index("</figcaption>")]
    assert "/".join(Path(evidence.table["path"][worst]).parts[-2:]) in first
    said, recorded = (
        class_name(int(of[worst])).replace("<", "&lt;").replace(">", "&gt;")
        for of in (evidence.prediction, evidence.label)
    )
    assert f"recorded: {recorded}" in first and f"said: {said}" in first


def test_what_stands_in_the_way_is_said(fitted: Path, tmp_path: Path) -> None:
    result = call("report", "--artifacts", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.stderr
    run = shutil.copytree(fitted, tmp_path / "run")
    shutil.rmtree(run / "combiner")
    result = call("report", "--artifacts", run, "--output", tmp_path)
    assert result.exit_code == 1 and "the combiner is missing" in result.stderr and "fit-meta" in result.stderr
    assert not list(tmp_path.glob("*.html"))


def test_a_card_names_the_cap_and_the_people(written: Path, fitted: Path) -> None:
    card, table = (written / "MODEL_CARD.md").read_text(), pd.read_csv(fitted / "table.csv")
    assert f"168 images of 24 people, aged {table['age'].min():.0f} to {table['age'].max():.0f}." in card
    assert "## Intended use" in card and "Not for" in card and "## Gaps between groups" in card
