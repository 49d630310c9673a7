"""Face boxes that come with the data are cropped as they are: nothing is detected, at fit and at infer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import call, scene, scenes
from PIL import Image

from facecade.base.errors import FacecadeError
from facecade.faces import boxes, decode
from facecade.faces.boxes import BoxedImage
from facecade.faces.crop import Box, crop
from facecade.faces.decode import DecodeError
from facecade.faces.reader import FaceCrop, FaceReader
from facecade.faces.source import read_source
from facecade.faces.store import Entry, FaceStore
from facecade.faces.table import read_saved_table
from facecade.recipe import Face
from facecade.recipe_file import override, read_toml
from facecade.runs.begin import begin_run
from facecade.runs.run import open_run

FACE = Face(size=(48, 36))
BOX = Box(40, 60, 100, 140, 1.0)


@pytest.fixture(autouse=True)
def no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceReader, "_boxes", lambda *_: pytest.fail("a face is detected"))


def boxed_manifest(folder: Path, people: int = 12) -> Path:
    """Scenes, each with a box of its own."""
    sheet = scenes(folder, people) / "manifest.csv"
    head, *rows = sheet.read_text().splitlines()
    boxed = [f"{row},{10 + number % 20},20,{110 + number % 20},160" for number, row in enumerate(rows)]
    sheet.write_text("\n".join([f"{head},Left,Top,Right,Bottom", *boxed]) + "\n")
    return folder


def test_a_given_box_is_cropped_and_nothing_detected(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "a.png")
    face = FaceReader(FACE)(BoxedImage(tmp_path / "a.png", BOX))
    assert isinstance(face, FaceCrop) and face.box == BOX
    assert (face.crop == crop(np.asarray(scene(0)), BOX, FACE)).all()


def test_a_box_is_of_the_upright_image_at_its_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large JPEG is scaled while it is decoded, and its box with it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90°
    scene(0).rotate(90, expand=True).save(tmp_path / "a.jpg", exif=exif, quality=95)
    whole = FaceReader(FACE)(BoxedImage(tmp_path / "a.jpg", BOX))
    monkeypatch.setattr(decode, "MAX_PIXELS", 192 * 256 // 2)
    halved = FaceReader(FACE)(BoxedImage(tmp_path / "a.jpg", BOX))
    assert isinstance(whole, FaceCrop) and isinstance(halved, FaceCrop)
    assert halved.box == Box(20, 30, 50, 70, 1.0) and halved.given == whole.given == BOX
    upright = crop(np.asarray(scene(0)), BOX, FACE).astype(int)
    for face in (whole, halved):
        assert np.abs(face.crop - upright).mean() < 12 < np.abs(face.crop[::-1] - upright).mean()


def test_the_cache_tells_boxes_apart(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "a.png")
    face = FACE.model_copy(update={"detector": "centre"})
    images = [BoxedImage(tmp_path / "a.png", box) for box in (BOX, Box(0, 0, 90, 120, 1.0), BOX)]
    store = FaceStore(tmp_path / "cache", face)
    entries = store.fill(images)
    assert [entry.row for entry in entries if isinstance(entry, Entry)] == [0, 1, 0]
    assert len({entry.content for entry in entries if isinstance(entry, Entry)}) == 1, "the hash of the file"
    again = FaceStore(tmp_path / "cache", face)
    assert again.fill(images) == entries and (again.crops() == store.crops()).all()


@pytest.mark.parametrize("box", [Box(200, 0, 260, 50, 1.0), Box(-50, -50, 0, 0, 1.0), Box(0, 0, 900, 900, 1.0)])
def test_a_box_that_does_not_fit_is_named(tmp_path: Path, box: Box) -> None:
    scene(0).save(tmp_path / "a.png")
    error = FaceReader(FACE)(BoxedImage(tmp_path / "a.png", box))
    assert isinstance(error, DecodeError) and "does not fit the image, 192×256 pixels" in error.reason


def test_a_manifest_with_boxes(tmp_path: Path) -> None:
    source = read_source(boxed_manifest(tmp_path, 2))
    assert [image.box.left for image in source.images if isinstance(image, BoxedImage)] == list(range(10, 16))
    sheet = tmp_path / "manifest.csv"
    lines = sheet.read_text().splitlines()
    for number, wrong in enumerate((",,,,", ",5,5,5,9", ",a,1,2,3", ",1,2,3,", ",1e3,1,2,3"), start=1):
        lines[number] = ",".join(lines[number].split(",")[:5]) + wrong
    sheet.write_text("\n".join(lines))
    source = read_source(tmp_path)
    assert [isinstance(image, BoxedImage) for image in source.images] == [False, True]
    assert [str(each).partition(": ")[2] for each in source.problems] == [
        "the face box has no area: left is below right, top below bottom",
        *[
            f"{side} is '{text}', expected pixels; a face box has all four sides or none"
            for side, text in (("left", "a"), ("bottom", ""), ("left", "1e3"))
        ],
    ]


def test_check_reads_boxes(tmp_path: Path) -> None:
    sheet = boxed_manifest(tmp_path) / "manifest.csv"
    sheet.write_text(sheet.read_text().replace(",10,20,110,160", ",500,20,600,160", 1))
    result = call("check", tmp_path)
    assert result.exit_code == 1
    assert (
        "bad: images/p0-wear.png: the face box 500,20,600,160 does not fit the image, 192×256 pixels" in result.stdout
    )


def test_a_run_keeps_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = override(read_toml(Path("recipes/demo.toml")), ["folds=3", "face.detector=mtcnn"], [])
    data = boxed_manifest(tmp_path / "data")
    run = begin_run(tmp_path / "run", data, tables)
    assert "found in 0 of 36 images; 0 use the centre crop; of 36 the box is given" in capsys.readouterr().err
    opened = open_run(run.folder)
    assert opened.labels_hash == run.labels_hash and opened.table[boxes.SIDES].notna().all(axis=None)
    store, rows = opened.faces(2)
    expected = crop(np.asarray(scene(5)), Box(15, 20, 115, 160, 1.0), opened.recipe.face)
    assert (store.crops()[rows[5]] == expected).all()
    sheet = data / "manifest.csv"
    sheet.write_text(sheet.read_text().replace(",10,20,110,160", ",11,20,110,160"))
    assert begin_run(tmp_path / "run", data, tables).signature("mask") != run.signature("mask"), "fits become stale"


def test_a_damaged_box_of_a_run_is_refused(tmp_path: Path) -> None:
    tables = override(read_toml(Path("recipes/demo.toml")), ["folds=3"], [])
    run = begin_run(tmp_path / "run", boxed_manifest(tmp_path / "data"), tables)
    file = run.folder / "table.csv"
    file.write_text(file.read_text().replace("10.0,20.0,110.0,160.0", "10.0,20.0,9.0,160.0", 1))
    with pytest.raises(FacecadeError, match=r"table.csv is damaged: left is .* in row"):
        read_saved_table(file)


def test_a_run_without_boxes_has_no_columns_for_them(tmp_path: Path) -> None:
    tables = override(read_toml(Path("recipes/demo.toml")), ["folds=3", "face.detector=centre"], [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceReader, "_boxes", lambda *_: ([None], None))
        run = begin_run(tmp_path / "run", scenes(tmp_path / "data", 12), tables)
    assert not set(boxes.SIDES) & set(run.table) and "middle" not in run.table
