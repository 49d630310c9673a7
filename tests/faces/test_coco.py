"""Annotations in the form of COCO: labels from attributes and categories, boxes from bbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.faces.boxes import SIDES
from facecade.faces.layouts import coco
from facecade.faces.reading import make_reading
from facecade.faces.source import read_source
from facecade.faces.table import classes


def write(root: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    images = []
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        path = root / ("images" if number else ".") / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), "grey").save(path)
        images.append({"id": number, "file_name": name, "width": 40, "height": 40})
    categories = [{"id": 1, "name": "with_mask"}, {"id": 2, "name": "face"}]
    file = root / "mine.json"
    file.write_text(
        json.dumps({"images": images, "categories": categories, "annotations": annotations, "info": {}} | more)
    )
    return file


def test_annotations_are_rows(tmp_path: Path) -> None:
    first = {
        "image_id": 0,
        "category_id": 1,
        "bbox": [1, 2, 10.5, 20],
        "attributes": {"Gender": "female", "age": 45, "person": "ann"},
    }
    second = {
        "image_id": 1,
        "category_id": 2,
        "attributes": {"mask": "normal", "gender": "M", "age": "<30", "person": "bob"},
    }
    source = read_source(write(tmp_path, [first, second]), make_reading(["gender.M=male"]))
    assert not source.problems and source.layout == "coco"
    assert source.table["path"].tolist() == ["a.png", "images/b.png"] and source.table["person"].tolist() == [
        "ann",
        "bob",
    ]
    assert classes(source.table).tolist() == [4, 12]
    assert source.table[SIDES].iloc[0].tolist() == [1, 2, 11.5, 22] and source.table[SIDES].iloc[1].isna().all()
    assert "category 'with_mask': mask wear" in source.label_notes
    assert "category 'face': says no label" in source.label_notes
    assert "1 images have no annotation, and are left out" in source.notes


def test_several_faces_of_an_image_and_unknown_images_are_problems(tmp_path: Path) -> None:
    annotations = [{"image_id": image, "category_id": 1} for image in (0, 0, 9)] + [
        {"image_id": 1, "category_id": 1, "bbox": [1]}
    ]
    problems = [str(each) for each in read_source(write(tmp_path, annotations)).problems]
    assert problems == [
        "mine.json annotation 2: path 'a.png' is already in mine.json annotation 1",
        "mine.json annotation 3: no image has the id 9",
        "mine.json annotation 4: bbox has 1 numbers, expected left, top, width and height",
    ]


def test_images_without_annotations_are_to_be_predicted(tmp_path: Path) -> None:
    source = read_source(write(tmp_path, []))
    assert not source.labelled and source.image_ids == ["a.png", "images/b.png", "images/c.png"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"images": 1}',
        '{"images": [{"id": 1}]}',
        "[" * 100_000,
        '{"images": [{"id": 1e999, "file_name": ""}]}',
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FacecadeError, match="is not JSON in the form of COCO") as caught:
        read_source(tmp_path / "a.json")
    assert len(str(caught.value)) < 600 and "annotations" in caught.value.hint


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "MAX_JSON_BYTES", 100)
    with pytest.raises(FacecadeError, match="more than the allowed 100"):
        read_source(write(tmp_path, []))
