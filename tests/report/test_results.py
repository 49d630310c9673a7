"""The results page has the numbers of the run folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import succeed

from facecade.faces.labels import encode
from facecade.report.nested import NestedPredictions
from facecade.report.results import SCORES, agreement_text, render, summary, swapped_files_text
from facecade.report.text import interval

STEPS = [
    {"step": "fit-stage mask", "command": "python cli.py fit-stage mask", "seconds": 90.0, "peak_mib": 900, "commit": "abc", "machine": "a machine"},
    {"step": "infer", "command": "python cli.py infer", "seconds": 30.0, "peak_mib": 800, "commit": "abc", "machine": "a machine"},
]  # fmt: skip


def test_pages_are_read_from_the_run_folder(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--output", tmp_path)
    succeed("evaluate", tmp_path / "submission.csv", drawn / "eval/eval_labels.csv", "--output", tmp_path)
    combiner = json.loads((fitted / "combiner/meta.json").read_text())
    scored = json.loads((tmp_path / "evaluation.json").read_text())["score"]
    page = render(fitted, tmp_path, STEPS, Path("recipes/demo.toml"))
    for name, scores in combiner["nested"].items():
        assert (
            f"{name}** | {interval(scores['macro-F1'])}" in page or f"| {name} | {interval(scores['macro-F1'])}" in page
        )
    assert interval(scored["macro-F1"]) in page and interval(combiner["nested_choice"]["accuracy"]) in page
    assert page.count("| fold |") == 1 and page.count("test_efficientnet") == 12
    assert "Fitting (stages and combiner): **1.5 min**; all steps: **2.0 min**" in page
    text = summary(fitted, tmp_path, STEPS, Path("recipes/demo.toml"))
    assert (
        interval(scored["macro-F1"], 3) in text
        and "168 images of 24" in text
        and text.startswith("`recipes/demo.toml`")
    )


def test_nested_scores_are_compared_with_those_on_eval() -> None:
    nested = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in SCORES}
    assert "Every nested interval overlaps" in agreement_text(nested, nested)
    lower = nested | {"accuracy": {"value": 0.3, "low": 0.2, "high": 0.39}}
    assert agreement_text(nested, lower) == "The nested accuracy differs from eval: the intervals do not overlap."


def test_people_with_swapped_files_are_counted() -> None:
    """Ten people, four images each; one pair predicted crosswise, one single image wrong."""
    mask = np.tile([0, 0, 1, 2], 10)
    predicted = mask.copy()
    predicted[[2, 3]] = predicted[[3, 2]]
    predicted[6] = 2
    table = pd.DataFrame({"person": np.repeat([f"p{number}" for number in range(10)], 4)})
    label, prediction = encode(mask, 0, 0), encode(predicted, 0, 0)
    crossed = NestedPredictions(table, label, prediction, np.eye(18)[prediction], np.full(40, np.nan), {}, {}, [])
    text = " ".join(swapped_files_text(crossed))
    assert "Of 1 people both" in text and f"accuracy is {35 / 36:.4f} [" in text
    assert swapped_files_text(replace(crossed, prediction=label)) == []
