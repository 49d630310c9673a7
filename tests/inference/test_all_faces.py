"""Every face of an image on request, the same from `infer`, the API and its resumed calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_explain import constant_cascade, one_network

import facecade.api
from facecade.base.errors import FacecadeError
from facecade.faces import reader
from facecade.faces.crop import Box
from facecade.faces.reader import MAX_FACES
from facecade.faces.source import read_source
from facecade.inference import cascade as cascade_module
from facecade.inference.cascade import Cascade, RowPredictor

BOXES = [Box(10, 5, 40, 45, 0.99), Box(50, 5, 70, 30, 0.9), Box(75, 5, 80, 12, 0.8)]
"""The faces of an image, as far as it is wide enough for them."""


@pytest.fixture
def cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cascade:
    """A cascade whose detector finds `BOXES` that lie in the image."""

    def detector(*_: Any) -> Any:
        return lambda pixels: [box for box in BOXES if box.right <= pixels.shape[1]]

    monkeypatch.setattr(reader, "make_all_faces_detector", detector)
    constant = constant_cascade(tmp_path / "combiner", [one_network(0.9, 0.7, 54.0, 0.9, 0.1)])
    return replace(constant, face=constant.face.model_copy(update={"detector": "mtcnn"}))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve images with three faces, one, none and two in turn; the last is damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", ((90, 45, 20, 72)[number % 4], 50), (number, 0, 0)).save(folder / f"{number:02}.png")
    (folder / "12.png").write_bytes(b"")
    return folder


def infer(cascade: Cascade, images: Path, output: Path, **options: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    summary = cascade.infer(read_source(images), output, 2, **options)
    return summary, pd.read_csv(output / "predictions.csv")


def test_infer_says_how_many_faces_there_were(cascade: Cascade, images: Path, tmp_path: Path) -> None:
    summary, table = infer(cascade, images, tmp_path / "o")
    assert table["faces"].tolist()[:5] == [3, 1, 0, 2, 3] and pd.isna(table["faces"][12]) and len(table) == 13
    assert table["face"].tolist()[:2] == [1, 1] and pd.isna(table["face"][2])
    assert table.loc[0, ["left", "top", "right", "bottom"]].tolist() == [10, 5, 40, 45] and pd.isna(table["left"][2])
    several = table["flags"].fillna("").str.contains("several-faces")
    assert several.tolist() == (table["faces"] > 1).tolist() and summary["flags"]["several-faces"] == 6
    assert summary["flags"]["no-face"] == 3 and "submission" not in summary


def test_every_face_has_a_row(cascade: Cascade, images: Path, tmp_path: Path) -> None:
    summary, table = infer(cascade, images, tmp_path / "o", faces="all")
    assert (summary["images"], summary["rows"]) == (13, len(table)) == (13, 3 * (3 + 1 + 1 + 2) + 1)
    assert table["ImageID"].tolist()[:7] == ["00.png"] * 3 + ["01.png", "02.png"] + ["03.png"] * 2
    assert table["face"].tolist()[:4] == [1, 2, 3, 1] and table["left"].tolist()[:3] == [10, 50, 75]
    largest = infer(cascade, images, tmp_path / "largest")[1]
    pd.testing.assert_frame_equal(table[~(table["face"] > 1)].reset_index(drop=True), largest)


def test_the_api_gives_every_face_too(cascade: Cascade, images: Path, tmp_path: Path) -> None:
    infer(cascade, images, tmp_path / "o", faces="all")
    predictions = facecade.api.Cascade(cascade).predict(images, faces="all")
    assert predictions.to_pandas().to_csv(index=False) == (tmp_path / "o/predictions.csv").read_text()
    assert [(each.id, each.face, each.faces) for each in predictions[:4]] == [
        ("00.png", 1, 3), ("00.png", 2, 3), ("00.png", 3, 3), ("01.png", 1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_stopped_call_goes_on_to_the_same_bytes(
    cascade: Cascade, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Chunks of two crops divide the faces of an image; what is written holds all of them."""
    monkeypatch.setattr(cascade_module, "IMAGES_PER_WRITE", 3)
    infer(cascade, images, tmp_path / "whole", faces="all")
    calls, rows = [], RowPredictor.rows

    def stopping(self: RowPredictor, batch: Any) -> Any:
        calls.append(batch)
        if len(calls) > stop_at:
            raise KeyboardInterrupt
        return rows(self, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RowPredictor, "rows", stopping)
        infer(cascade, images, tmp_path / "o", faces="all")
    assert 0 < len((tmp_path / "o/.predictions.csv").read_text().splitlines()) - 1 < 22
    infer(cascade, images, tmp_path / "o", faces="all")
    assert (tmp_path / "o/predictions.csv").read_bytes() == (tmp_path / "whole/predictions.csv").read_bytes()


def test_a_form_gets_no_submission_of_every_face(cascade: Cascade, images: Path, tmp_path: Path) -> None:
    (tmp_path / "info.csv").write_text("ImageID,ans\n00.png,0\n12.png,0\n")
    summary, _ = infer(cascade, tmp_path, tmp_path / "o")
    submission = pd.read_csv(tmp_path / "o/submission.csv")
    assert summary["submission"] and submission["ImageID"].tolist() == ["00.png", "12.png"]
    assert submission["ans"][1] == RowPredictor.load(cascade, cascade.combiner).most_frequent
    with pytest.raises(FacecadeError, match=r"holds the predictions of .*faces largest"):
        infer(cascade, tmp_path, tmp_path / "o", faces="all")
    summary, table = infer(cascade, tmp_path, tmp_path / "o", faces="all", overwrite=True)
    assert "submission" not in summary and len(table) == 4 and not (tmp_path / "o/submission.csv").exists()


def test_a_crowd_is_bounded(cascade: Cascade, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = [BOXES[0]] * (MAX_FACES + 5)
    monkeypatch.setattr(reader, "make_all_faces_detector", lambda *_: lambda pixels: crowd)
    predictions = facecade.api.Cascade(cascade).predict(np.zeros((50, 90, 3), np.uint8), faces="all")
    assert len(predictions) == MAX_FACES and predictions[0].faces == MAX_FACES + 5
