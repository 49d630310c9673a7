"""Files of answers that grow, and go on where they were stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facecade.faces.labels import N_CLASSES
from facecade.report.predictions import PredictionFiles, predictions_table

RNG = np.random.default_rng(0)
PROBABILITY = RNG.dirichlet(np.ones(N_CLASSES), 10)
YEARS = np.column_stack([RNG.normal(40, 9, (10, 3))])
YEARS[4] = np.nan
FLAGS = ["", "no-face", "", "", "unreadable: empty file", "", "", "", "no-face", ""]
WHOLE = predictions_table([f"{n:03}" for n in range(10)], PROBABILITY.argmax(1), PROBABILITY, YEARS, FLAGS)


def written(output: Path, pieces: list[tuple[int, int]]) -> dict[str, object]:
    files = PredictionFiles(output, {"asked": 1})
    for start, end in pieces:
        files.add(start, WHOLE[start:end])
    return files.close()


def test_pieces_make_the_same_files_as_the_whole(tmp_path: Path) -> None:
    said = written(tmp_path / "a", [(0, 10)])
    written(tmp_path / "b", [(0, 3), (3, 4), (4, 10)])
    for name in ("predictions.csv", "submission.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    submission = pd.read_csv(tmp_path / "a/submission.csv", dtype={"ImageID": str})
    assert submission.equals(WHOLE[["ImageID", "ans"]]) and said["images"] == 10
    assert said["flags"] == {"no-face": 2, "unreadable": 1}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["predictions.csv", "submission.csv"]


@pytest.mark.parametrize("cut", [0, 17])
def test_a_process_that_stopped_goes_on_behind_its_last_piece(tmp_path: Path, cut: int) -> None:
    written(tmp_path / "whole", [(0, 10)])
    stopped = PredictionFiles(tmp_path / "b", {"asked": 1})
    stopped.add(0, WHOLE[:4])
    with open(tmp_path / "b/.predictions.csv", "ab") as file:  # as if it was stopped while it wrote
        file.write(b"x" * cut)
    again = PredictionFiles(tmp_path / "b", {"asked": 1})
    assert again.done == 4
    again.add(2, WHOLE[2:6])  # some of these it has
    again.add(6, WHOLE[6:])
    again.close()
    assert (tmp_path / "b/predictions.csv").read_bytes() == (tmp_path / "whole/predictions.csv").read_bytes()


def test_answers_to_something_else_are_begun_anew_and_the_last_ones_stay_until_then(tmp_path: Path) -> None:
    written(tmp_path, [(0, 10)])
    before = (tmp_path / "predictions.csv").read_bytes()
    PredictionFiles(tmp_path, {"asked": 1}).add(0, WHOLE[:4])
    other = PredictionFiles(tmp_path, {"asked": 2})
    assert other.done == 0 and (tmp_path / "predictions.csv").read_bytes() == before
    other.add(0, WHOLE[:1])
    said = other.close()
    assert said["prediction"] == json.loads(WHOLE.iloc[0].to_json())
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1
