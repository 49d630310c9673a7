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
    for expected in (
        "mask · man · 30–59 · about 48 years",
        "Class 1 (wear male 30-59), confidence 0.55, probability 0.60",
        "then mask · man · 60 or over, 0.02: odds of 3.86 to 1",
    ):
        assert expected in page
    assert (
        "Least confident: mask, mask at 0.90. Networks disagree most: age-male, 1 of 2 predicts other than 30–59."
        in page
    )
    assert "Regressor for men</b> 47.5 years: 30–59" in page and "<b>29.5</b>" in page and "<b>58.2</b>" in page
    assert "fc-number" not in page and "fc-box" not in page


def test_that_no_face_was_found_comes_first_and_the_prediction_is_pale() -> None:
    page = result_html(PredictedImage("blue.png", PIXELS, explanation(flag="no-face unsure")))
    assert page.index("No face was found") < page.index("mask · man") and "fc-loud" in page
    assert page.index("fc-weak") < page.index("fc-card")
    with_face = result_html(PredictedImage("a.png", PIXELS, explanation(explained_face(Box(1, 2, 30, 40, 0.9)))))
    assert "fc-weak" not in with_face and "fc-loud" not in with_face


def test_an_unsure_prediction_has_a_badge() -> None:
    assert "fc-badge" in result_html(PredictedImage("a.png", PIXELS, explanation(flag="unsure")))
    assert "fc-badge" not in result_html(PredictedImage("a.png", PIXELS, explanation()))


def test_years_outside_of_the_band_are_explained() -> None:
    face = explained_face(age=29.6)
    assert "Band limit for men: 29.5." not in result_html(PredictedImage("a.png", PIXELS, explanation(face)))
    younger, older = explained_face(age=28.0), explained_face(age=61.0)
    assert "Band predicted separately." in result_html(PredictedImage("a.png", PIXELS, explanation(younger)))
    assert "Band predicted separately." in result_html(PredictedImage("a.png", PIXELS, explanation(older)))


def test_the_upload_is_shown_again_only_with_boxes_and_crops_only_of_several_faces() -> None:
    pictures = [
        result_html(PredictedImage("a.png", PIXELS, explanation(*faces))).count("<img")
        for faces in (
            [explained_face()],
            [explained_face(Box(1, 2, 30, 40, 0.9))],
            [explained_face(Box(1, 2, 30, 40, 0.9)), explained_face(Box(31, 2, 50, 40, 0.9))],
        )
    ]
    assert pictures == [0, 1, 3]


def test_words_of_the_bands_are_above_the_scale_and_not_under_its_marks() -> None:
    page = result_html(PredictedImage("a.png", PIXELS, explanation()))
    words, scale = page.index("fc-bands"), page.index('role="img"')
    assert words < page.index("60 or over", words) < scale and 'fc-band"' not in page


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


TWO_FACES = explanation(
    explained_face(Box(0, 0, 9, 9, 0.9), flag="several-faces trained-on"),
    explained_face(Box(9, 9, 12, 12, 0.9), flag="several-faces unsure trained-on"),
)


def batch() -> list[BatchRow | RefusedImage]:
    (first,) = BatchRow.of(PredictedImage("a.jpg", PIXELS, TWO_FACES))
    (second,) = BatchRow.of(PredictedImage("a.jpg", PIXELS, explanation(detects=False)))
    return [first, RefusedImage("bad, worse.jpg", REFUSED), second]


def test_a_batch_has_one_row_per_image() -> None:
    page = batch_table(batch())
    assert page.count("<tr>") == 4 and page.count("<img") == 2 and "3 images, 1 refused" in page
    assert "2 faces; this is the largest, trained-on" in page and "the file is not an image; send another one" in page


def test_a_batch_has_a_row_for_every_face_on_request() -> None:
    rows = BatchRow.of(PredictedImage("a.jpg", PIXELS, TWO_FACES), every_face=True)
    page, table = batch_table(rows), predictions(rows)
    assert "1 image, 2 faces" in page and "this is number 2, unsure, trained-on" in page
    assert table["face"].tolist() == [1, 2] and table["faces"].tolist() == [2, 2] and table["left"].tolist() == [0, 9]


def test_a_batch_says_that_there_is_no_face() -> None:
    page = batch_table(BatchRow.of(PredictedImage("a.jpg", PIXELS, explanation(flag="no-face"))))
    assert "no face found" in page and '<span class="fc-weak">mask · man · 30–59</span>' in page


def test_the_csv_has_the_columns_of_infer_and_no_prediction_for_refused_images() -> None:
    text = predictions(batch()).to_csv(index=False)
    table = pd.read_csv(io.StringIO(text))
    assert (
        list(table)[:4] == ["ImageID", "ans", "mask", "gender"]
        and list(table)[-1] == "p17"
        and len(table.columns) == 34
    )
    assert list(table["ImageID"]) == ["a.jpg", "bad, worse.jpg", "a.jpg"]
    assert text.splitlines()[1].startswith(
        "a.jpg,1,wear,male,30-59,47.5,47.5,51.0,0.55,several-faces trained-on,2,1,0.0,0.0,9.0,9.0,"
    )
    assert table.loc[1].drop(["ImageID", "flags"]).isna().all()
    assert table.loc[1, "flags"] == "unreadable: the file is not an image"


def test_a_batch_of_refused_images_gives_a_csv() -> None:
    table = predictions([RefusedImage("bad.jpg", REFUSED)])
    assert len(table) == 1 and table["ans"].isna().all()
