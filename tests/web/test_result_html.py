"""The HTML of one image and of a batch."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from stubs import explained_face, explanation

pytest.importorskip("markupsafe", reason="the page needs pip install -e '.[web]'")

from facecade.faces.crop import Box
from facecade.web.batch_html import BatchRow, RefusedImage, batch_table, predictions
from facecade.web.limits import RefusedError
from facecade.web.predictor import PredictedImage
from facecade.web.result_html import attention_html, result_html

PIXELS = np.zeros((80, 60, 3), np.uint8)
REFUSED = RefusedError(415, "the file is not an image", "send another one")


def test_one_face_is_shown_with_all_details() -> None:
    page = result_html(PredictedImage("<me>.jpg", PIXELS, explanation(flag="no-face trained-on")))
    assert "&lt;me&gt;.jpg" in page and "<me>" not in page
    assert "No face was found" in page and "trained on this image" in page and "the center was cropped" in page
    for expected in ("wear male 30-59", "probability 0.60", "then wear male &gt;=60, 0.02: odds of 3.86 to 1"):
        assert expected in page
    assert (
        "Least confident: mask, wear at 0.90. Networks disagree most: age-male, 1 of 2 predicts other than 30-59."
        in page
    )
    assert "male regressor</b> 47.5 years: 30-59" in page and "<b>29.5</b>" in page and "<b>58.2</b>" in page
    assert "fc-number" not in page and "fc-box" not in page


def test_several_faces_get_numbered_boxes() -> None:
    boxes = [Box(30, 20, 60, 60, 0.99), Box(0, 0, 15, 20, 0.9)]
    page = result_html(PredictedImage("two.jpg", PIXELS, explanation(*[explained_face(box) for box in boxes])))
    assert 'style="left:50.00%;top:25.00%;width:50.00%;height:50.00%"><b>1</b>' in page
    assert 'style="left:0.00%;top:0.00%;width:25.00%;height:25.00%"><b>2</b>' in page
    assert page.count("fc-number") == 2 and "2 faces found" in page and "No face" not in page


def test_a_method_without_contributions_says_so() -> None:
    page = result_html(PredictedImage("p.jpg", PIXELS, explanation(explained_face(contributions=False))))
    assert "is not a sum" in page and "odds" not in page


def test_attention_maps_are_shown_face_by_face() -> None:
    maps = {name: np.zeros((2, 8, 8, 3), np.uint8) for name in ("joint-mask", "age-male")}
    page = attention_html(maps, faces=5)
    assert page.count("<img") == 4 and "joint on mask" in page and ">age-male<" in page
    assert "Face 2" in page and "first 2 of 5 faces" in page
    assert "first" not in attention_html(maps, faces=2)


def batch() -> list[BatchRow | RefusedImage]:
    two_faces = explanation(
        explained_face(Box(0, 0, 9, 9, 0.9)), explained_face(Box(9, 9, 12, 12, 0.9)), flag="trained-on"
    )
    rows = [
        BatchRow.from_prediction(PredictedImage("a.jpg", PIXELS, explained)) for explained in (two_faces, explanation())
    ]
    return [rows[0], RefusedImage("bad, worse.jpg", REFUSED), rows[1]]


def test_a_batch_has_one_row_per_image() -> None:
    page = batch_table(batch())
    assert page.count("<tr>") == 4 and page.count("<img") == 2 and "3 images, 1 refused" in page
    assert "trained-on, 2 faces; this is the largest" in page and "the file is not an image; send another one" in page


def test_the_csv_has_the_columns_of_infer_and_no_prediction_for_refused_images() -> None:
    text = predictions(batch()).to_csv(index=False)
    table = pd.read_csv(io.StringIO(text))
    assert (
        list(table)[:4] == ["ImageID", "ans", "mask", "gender"]
        and list(table)[-1] == "p17"
        and len(table.columns) == 28
    )
    assert list(table["ImageID"]) == ["a.jpg", "bad, worse.jpg", "a.jpg"]
    assert text.splitlines()[1].startswith("a.jpg,1,wear,male,30-59,47.5,47.5,51.0,0.6,trained-on,")
    assert table.loc[1].drop(["ImageID", "flags"]).isna().all()
    assert table.loc[1, "flags"] == "unreadable: the file is not an image"


def test_a_batch_of_refused_images_gives_a_csv() -> None:
    table = predictions([RefusedImage("bad.jpg", REFUSED)])
    assert len(table) == 1 and table["ans"].isna().all()
