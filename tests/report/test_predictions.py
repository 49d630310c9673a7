"""Prediction files are written in chunks, and resume after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.crop import Box
from facecade.faces.labels import MASKS, N_CLASSES
from facecade.report.predictions import (
    NO_PREDICTION,
    FaceOfImage,
    PredictionFiles,
    face_flags,
    predictions_table,
    read_first,
    split_flags,
)

RNG = np.random.default_rng(0)
PROBABILITY = RNG.dirichlet(np.ones(N_CLASSES), 10)
YEARS = np.column_stack([RNG.normal(40, 9, (10, 3))])
YEARS[4] = np.nan
FLAGS = ["", "no-face", "", "", "unreadable: empty file", "", "", "", "no-face", ""]
LABEL = PROBABILITY.argmax(1)
CONFIDENCE = PROBABILITY.max(1)
LABEL[4] = NO_PREDICTION
FACES = (
    [FaceOfImage(Box(1, 2.04, 30, 40, 0.9), 1, 2)] * 4 + [FaceOfImage(None, 0, None)] + [FaceOfImage(None, 0, 0)] * 5
)
WHOLE = predictions_table([f"{n:03}" for n in range(10)], LABEL, PROBABILITY, CONFIDENCE, YEARS, FLAGS, FACES)
UNREAD = 7


def written(output: Path, chunks: list[tuple[int, int]]) -> dict[str, object]:
    files = PredictionFiles(output, {"images": 1})
    for start, end in chunks:
        files.add(np.arange(start, end), WHOLE[start:end])
    return files.close(10, UNREAD)


def test_chunks_write_the_same_files_as_one_write(tmp_path: Path) -> None:
    result = written(tmp_path / "a", [(0, 10)])
    written(tmp_path / "b", [(0, 3), (3, 4), (4, 10)])
    for name in ("predictions.csv", "submission.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    submission = pd.read_csv(tmp_path / "a/submission.csv", dtype={"ImageID": str})
    assert list(submission["ans"]) == list(WHOLE["ans"].fillna(UNREAD)) and list(submission["ImageID"]) == list(
        WHOLE["ImageID"]
    )
    assert (result["images"], result["rows"]) == (10, 10)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["predictions.csv", "submission.csv"]
    assert result["flags"] == {"no-face": 2, "unreadable": 1}
    assert result["counts"]["mask"] == {name: (WHOLE["mask"] == name).sum() for name in MASKS}  # type: ignore[index]


def test_an_image_that_cannot_be_read_has_a_row_without_a_prediction() -> None:
    row = WHOLE.iloc[4]
    assert row["flags"] == "unreadable: empty file" and row["mask"] == row["gender"] == row["band"] == ""
    assert row[["ans", "age", "confidence", "faces", "face", "left"]].isna().all()


def test_a_row_has_the_box_the_number_and_the_count_of_faces() -> None:
    assert WHOLE.loc[0, ["faces", "face", "left", "top", "right", "bottom"]].tolist() == [2, 1, 1, 2, 30, 40]
    assert WHOLE.loc[9, "faces"] == 0 and WHOLE.loc[9, ["face", "left"]].isna().all()


def test_without_a_form_there_is_no_submission(tmp_path: Path) -> None:
    written(tmp_path, [(0, 10)])
    files = PredictionFiles(tmp_path, {"images": 1})
    files.add(np.arange(10), WHOLE)
    assert "submission" not in files.close(10, None)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"], "one of before is removed"


def test_all_faces_of_an_image_are_resumed_together(tmp_path: Path) -> None:
    image = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
    whole = PredictionFiles(tmp_path / "whole", {})
    whole.add(image, WHOLE)
    whole.close(4, None)
    stopped = PredictionFiles(tmp_path / "b", {})
    stopped.add(image[:6], WHOLE[:6])
    resumed = PredictionFiles(tmp_path / "b", {})
    assert resumed.images == 3
    resumed.add(image[3:], WHOLE[3:])
    assert resumed.close(4, None)["rows"] == 10
    assert (tmp_path / "b/predictions.csv").read_bytes() == (tmp_path / "whole/predictions.csv").read_bytes()


def test_flags_are_in_a_fixed_order_and_counted_each() -> None:
    box = Box(0, 0, 1, 1, 1.0)
    assert face_flags(True, None, 0, False) == ("no-face",) and face_flags(False, None, None, False) == ()
    assert face_flags(True, box, 3, True, "trained-on") == ("several-faces", "unsure", "trained-on")
    assert split_flags("unsure trained-on") == ["unsure", "trained-on"]
    assert split_flags("unreadable: empty file") == ["unreadable: empty file"] and split_flags("") == []


def test_the_first_rows_are_read_with_none_for_blanks(tmp_path: Path) -> None:
    written(tmp_path, [(0, 10)])
    first = read_first(tmp_path / "predictions.csv", 5)
    assert [row["ImageID"] for row in first] == ["000", "001", "002", "003", "004"]
    assert first[4]["ans"] is None and first[4]["age"] is None and first[4]["mask"] == "" and first[0]["faces"] == 2


@pytest.mark.parametrize("cut", [0, 17])
def test_an_interrupted_process_resumes_after_its_last_chunk(tmp_path: Path, cut: int) -> None:
    written(tmp_path / "whole", [(0, 10)])
    interrupted = PredictionFiles(tmp_path / "b", {"images": 1})
    interrupted.add(np.arange(4), WHOLE[:4])
    with open(tmp_path / "b/.predictions.csv", "ab") as file:  # as if it was interrupted while it wrote
        file.write(b"x" * cut)
    resumed = PredictionFiles(tmp_path / "b", {"images": 1})
    assert resumed.images == 4
    resumed.add(np.arange(2, 6), WHOLE[2:6])  # rows 2 and 3 are already written
    resumed.add(np.arange(6, 10), WHOLE[6:])
    resumed.close(10, UNREAD)
    assert (tmp_path / "b/predictions.csv").read_bytes() == (tmp_path / "whole/predictions.csv").read_bytes()


def test_another_request_starts_anew_and_old_files_stay_until_it_ends(tmp_path: Path) -> None:
    written(tmp_path, [(0, 10)])
    before = (tmp_path / "predictions.csv").read_bytes()
    PredictionFiles(tmp_path, {"images": 1}).add(np.arange(4), WHOLE[:4])
    other = PredictionFiles(tmp_path, {"images": 2})
    assert other.images == 0 and (tmp_path / "predictions.csv").read_bytes() == before
    other.add(np.arange(1), WHOLE[:1])
    result = other.close(1, UNREAD)
    assert result["prediction"] == json.loads(WHOLE[:1].to_json(orient="records"))[0]
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1


def test_files_with_another_number_of_rows_get_no_names(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, {"images": 1})
    files.add(np.arange(4), WHOLE[:4])
    with pytest.raises(FacecadeError, match="4 rows for 4 of 10 images"):
        files.close(10, UNREAD)
    assert not (tmp_path / "predictions.csv").exists() and not (tmp_path / "submission.csv").exists()
