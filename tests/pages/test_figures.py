"""The report's figures as PNG, its learning curves and its first sentences."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import succeed
from PIL import Image

from facecade.faces.labels import class_name
from facecade.pages.figures import write_figures
from facecade.report.nested import NestedPredictions
from facecade.report.verdict import FEW_PEOPLE, verdict

FIGURES = ["confusion_matrix.png", "confusion_matrix_normalized.png", "results.png", "ages.png"]


@pytest.fixture(scope="module")
def nested(fitted: Path) -> NestedPredictions:
    return NestedPredictions.read(fitted)


@pytest.fixture(scope="module")
def written(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("figures")
    files = json.loads(succeed("report", "--artifacts", fitted, "--output", output, "--json"))["files"]
    assert [Path(file).name for file in files] == ["report.html", "MODEL_CARD.md", *FIGURES]
    return output


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_for_slides(written: Path, name: str) -> None:
    """Large enough, on white, and not blank."""
    image = Image.open(written / name)
    image.load()
    pixels = np.asarray(image.convert("RGB"))
    assert image.format == "PNG" and min(image.size) > 600
    assert (pixels[0, 0] == 255).all() and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_a_figure_that_is_not_drawn_does_not_stay_from_an_earlier_report(
    nested: NestedPredictions, tmp_path: Path
) -> None:
    (tmp_path / "ages.png").write_bytes(b"of another run")
    history = {("mask", 0): [{"epoch": 1, "loss": 0.5, "seconds": 1.0}]}
    files = write_figures(tmp_path, nested, history, None)
    assert [file.name for file in files] == FIGURES[:3] and not (tmp_path / "ages.png").exists()


def test_curves_on_the_page_have_held_out_values(written: Path) -> None:
    page = (written / "report.html").read_text()
    training = page[page.index("<h2>Training</h2>") :]
    for label in ("held-out age MAE, years", "held-out accuracy", "held-out MAE, years", ">loss<"):
        assert label in training, label
    assert training.count("<svg") == 2 * 5
    assert "nothing is chosen by them" in training


def test_the_page_begins_with_what_to_expect_what_is_weakest_and_what_to_do(
    written: Path, nested: NestedPredictions
) -> None:
    page = (written / "report.html").read_text()
    assert page.index("<h2>In short</h2>") < page.index("<h2>Scores</h2>")
    shown = page[page.index("<h2>In short</h2>") : page.index("<h2>Scores</h2>")]
    sentences = verdict(nested, None)
    assert len(sentences) == 3 and " ".join(sentences).replace("<", "&lt;").replace(">", "&gt;") in shown
    score = nested.combiner.nested_choice["macro-F1"]
    assert f"{score['value']:.3f} (95 % interval {score['low']:.3f} to {score['high']:.3f})" in sentences[0]
    known = [f1 for f1 in nested.combiner.per_class_f1 if f1 is not None]
    weakest = re.search(r"weakest class is (\d+), (.*?) \(F1 (\d\.\d\d)", sentences[1])
    assert weakest and weakest[2] == class_name(int(weakest[1])) and weakest[3] == f"{min(known):.2f}"


def test_few_people_are_the_first_thing_to_mend_and_the_weakest_axis_the_next(nested: NestedPredictions) -> None:
    assert verdict(nested, None)[2].startswith("Add people of ")
    many = nested.table.assign(person=[f"p{row}" for row in range(len(nested.table))])
    label = np.arange(len(many)) % 2  # two classes with many people
    f1 = [0.9, 0.8, *[None] * 16]
    scores = dict(nested.combiner.nested_choice)
    scores["mask accuracy"] = {"value": 0.1, "low": 0.0, "high": 0.2}
    combiner = nested.combiner.model_copy(update={"per_class_f1": f1, "nested_choice": scores})
    changed = replace(nested, table=many, label=label, combiner=combiner)
    assert len(many) > 2 * FEW_PEOPLE
    _, weak, advice = verdict(changed, None)
    assert "The weakest class is 1" in weak and "mask is right least often (0.100" in weak
    assert advice.startswith("Look at the masks first")


def test_the_header_has_the_date_and_no_path(written: Path, fitted: Path) -> None:
    page = (written / "report.html").read_text()
    head = page[: page.index("<main>")]
    assert f"{datetime.date.today():%Y-%m-%d}: 168 images of 24 people" in head
    assert str(fitted) not in page


def test_the_baseline_has_one_name(written: Path) -> None:
    """As in explain."""
    page = (written / "report.html").read_text()
    assert "constant" not in page.replace("constants", "")
