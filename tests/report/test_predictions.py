"""Prediction files are written in chunks, and resume after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.labels import N_CLASSES
from facecade.report.predictions import PredictionFiles, predictions_table

RNG = np.random.default_rng(0)
PROBABILITY = RNG.dirichlet(np.ones(N_CLASSES), 10)
YEARS = np.column_stack([RNG.normal(40, 9, (10, 3))])
YEARS[4] = np.nan
FLAGS = ["", "no-face", "", "", "unreadable: empty file", "", "", "", "no-face", ""]
WHOLE = predictions_table([f"{n:03}" for n in range(10)], PROBABILITY.argmax(1), PROBABILITY, YEARS, FLAGS)


def written(output: Path, chunks: list[tuple[int, int]]) -> dict[str, object]:
    files = PredictionFiles(output, {"images": 1})
    for start, end in chunks:
        files.add(start, WHOLE[start:end])
    return files.close(10)


def test_chunks_write_the_same_files_as_one_write(tmp_path: Path) -> None:
    result = written(tmp_path / "a", [(0, 10)])
    written(tmp_path / "b", [(0, 3), (3, 4), (4, 10)])
    for name in ("predictions.csv", "submission.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    submission = pd.read_csv(tmp_path / "a/submission.csv", dtype={"ImageID": str})
    assert submission.equals(WHOLE[["ImageID", "ans"]]) and result["images"] == 10
    assert result["flags"] == {"no-face": 2, "unreadable": 1}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["predictions.csv", "submission.csv"]


@pytest.mark.parametrize("cut", [0, 17])
def test_an_interrupted_process_resumes_after_its_last_chunk(tmp_path: Path, cut: int) -> None:
    written(tmp_path / "whole", [(0, 10)])
    interrupted = PredictionFiles(tmp_path / "b", {"images": 1})
    interrupted.add(0, WHOLE[:4])
    with open(tmp_path / "b/.predictions.csv", "ab") as file:  # as if it was interrupted while it wrote
        file.write(b"x" * cut)
    resumed = PredictionFiles(tmp_path / "b", {"images": 1})
    assert resumed.done == 4
    resumed.add(2, WHOLE[2:6])  # rows 2 and 3 are already written
    resumed.add(6, WHOLE[6:])
    resumed.close(10)
    assert (tmp_path / "b/predictions.csv").read_bytes() == (tmp_path / "whole/predictions.csv").read_bytes()


def test_another_request_starts_anew_and_old_files_stay_until_it_ends(tmp_path: Path) -> None:
    written(tmp_path, [(0, 10)])
    before = (tmp_path / "predictions.csv").read_bytes()
    PredictionFiles(tmp_path, {"images": 1}).add(0, WHOLE[:4])
    other = PredictionFiles(tmp_path, {"images": 2})
    assert other.done == 0 and (tmp_path / "predictions.csv").read_bytes() == before
    other.add(0, WHOLE[:1])
    result = other.close(1)
    assert result["prediction"] == json.loads(WHOLE.iloc[0].to_json())
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1


def test_files_with_another_number_of_rows_get_no_names(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, {"images": 1})
    files.add(0, WHOLE[:4])
    with pytest.raises(FacecadeError, match="4 rows for 10 images"):
        files.close(10)
    assert not (tmp_path / "predictions.csv").exists() and not (tmp_path / "submission.csv").exists()
