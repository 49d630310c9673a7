"""benchmarks/extra.py: which predictions of two runs are compared, and what is said of them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from facecade.records import read_combiner_record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds its neighbours
extra: Any = import_module("extra")
steps: Any = import_module("steps")


def test_the_nested_scores_are_those_of_the_runs_and_the_difference_is_paired(fitted: Path) -> None:
    run = extra.nested_rows(fitted)
    recorded = read_combiner_record(fitted / "combiner").nested_choice
    wrong = run.assign(prediction=(run["label"] + 9) % 18)
    first, second = extra.compared(run, wrong)
    assert first[0] == "with" and first[1].startswith(f"{recorded['macro-F1']['value']:.4f} [")
    assert first[-2].startswith(f"{recorded['age MAE']['value']:.2f} [")
    assert second[1].startswith("0.0000 [") and second[-1] == "-"
    assert first[-1].startswith(f"+{recorded['macro-F1']['value']:.4f} [")


def test_runs_that_predicted_other_images_are_not_compared(fitted: Path) -> None:
    run = extra.nested_rows(fitted)
    turned = run.set_index(np.roll(run.index, 1))
    with pytest.raises(click.ClickException, match="different images"):
        extra.compared(run, turned)


def test_a_section_of_another_benchmark_is_kept_when_its_page_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    section = steps.marked("extra", "| a | b |\n| --- | --- |")
    page.write_text(f"# Old\n\n{section}\n\nmore\n")
    assert steps.kept(page, "extra") == section
    page.write_text(f"# New\n\n{steps.kept(page, 'extra')}\n")
    steps.into(page, "extra", "measured")
    assert page.read_text() == f"# New\n\n{steps.marked('extra', 'measured')}\n"
