"""What the page says of an image, and of many."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from stubs import a_face, explanation

pytest.importorskip("markupsafe", reason="the page needs pip install -e '.[web]'")

from facecade.faces.crop import Box
from facecade.web.batch_html import Line, Unread, batch_table, predictions
from facecade.web.limits import RefusedError
from facecade.web.predictor import PredictedImage
from facecade.web.result_html import attention_sheet, sheet

PIXELS = np.zeros((80, 60, 3), np.uint8)
REFUSED = RefusedError(415, "the file is no image", "give another")


def test_one_face_is_told_whole() -> None:
    page = sheet(PredictedImage("<me>.jpg", PIXELS, explanation(flag="no-face trained-on")))
    assert "&lt;me&gt;.jpg" in page and "<me>" not in page
    assert "No face was found" in page and "learned from this image" in page and "the centre was cut out" in page
    for words in ("wear male 30-59", "probability 0.60", "then wear male &gt;=60, 0.02: odds of 3.86 to 1"):
        assert words in page
    assert "Least sure: mask, wear at 0.90. Networks disagree most: age-male, 1 of 2 says other than 30-59." in page
    assert "male regressor</b> 47.5 years: 30-59" in page and "<b>29.5</b>" in page and "<b>58.2</b>" in page
    assert "fc-number" not in page and "fc-box" not in page


def test_several_faces_are_numbered_where_they_are() -> None:
    boxes = [Box(30, 20, 60, 60, 0.99), Box(0, 0, 15, 20, 0.9)]
    page = sheet(PredictedImage("two.jpg", PIXELS, explanation(*[a_face(box) for box in boxes])))
    assert 'style="left:50.00%;top:25.00%;width:50.00%;height:50.00%"><b>1</b>' in page
    assert 'style="left:0.00%;top:0.00%;width:25.00%;height:25.00%"><b>2</b>' in page
    assert page.count("fc-number") == 2 and "2 faces found" in page and "No face" not in page


def test_a_way_that_adds_nothing_up_says_so() -> None:
    page = sheet(PredictedImage("p.jpg", PIXELS, explanation(a_face(contributions=False))))
    assert "adds nothing up" in page and "odds" not in page


def test_attention_is_shown_face_by_face() -> None:
    maps = {name: np.zeros((2, 8, 8, 3), np.uint8) for name in ("joint-mask", "age-male")}
    page = attention_sheet(maps, faces=5)
    assert page.count("<img") == 4 and "joint on mask" in page and ">age-male<" in page
    assert "Face 2" in page and "first 2 of 5 faces" in page
    assert "first" not in attention_sheet(maps, faces=2)


def lines() -> list[Line | Unread]:
    many = explanation(a_face(Box(0, 0, 9, 9, 0.9)), a_face(Box(9, 9, 12, 12, 0.9)), flag="trained-on")
    read = [Line.of(PredictedImage(name, PIXELS, said)) for name, said in (("a.jpg", many), ("a.jpg", explanation()))]
    return [read[0], Unread("bad, worse.jpg", REFUSED), read[1]]


def test_a_batch_is_a_row_each_whatever_they_are_called() -> None:
    page = batch_table(lines())
    assert page.count("<tr>") == 4 and page.count("<img") == 2 and "3 images, 1 without an answer" in page
    assert "trained-on, 2 faces; this is the largest" in page and "the file is no image; give another" in page


def test_the_csv_has_the_columns_of_infer_and_no_answer_for_what_was_refused() -> None:
    text = predictions(lines()).to_csv(index=False)
    table = pd.read_csv(io.StringIO(text))
    assert (
        list(table)[:4] == ["ImageID", "ans", "mask", "gender"]
        and list(table)[-1] == "p17"
        and len(table.columns) == 28
    )
    assert list(table["ImageID"]) == ["a.jpg", "bad, worse.jpg", "a.jpg"]
    assert text.splitlines()[1].startswith("a.jpg,1,wear,male,30-59,47.5,47.5,51.0,0.6,trained-on,")
    assert table.loc[1].drop(["ImageID", "flags"]).isna().all()
    assert table.loc[1, "flags"] == "unreadable: the file is no image"


def test_a_batch_of_nothing_readable_is_still_a_file() -> None:
    table = predictions([Unread("bad.jpg", REFUSED)])
    assert len(table) == 1 and table["ans"].isna().all()
