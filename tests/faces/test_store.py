"""Crops are made once, keyed by content hash, and survive a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces import reader as module
from facecade.faces.crop import Box, crop
from facecade.faces.decode import DecodeError, decode
from facecade.faces.duplicates import perceptual_hashes
from facecade.faces.store import Entry, FaceStore, hashes_of
from facecade.faces.synthetic import draw_face
from facecade.recipe import Face

FACE = Face(detector="centre", size=(40, 30))


def drawings(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.png")
        draw_face("normal", "male", 40, number, 0).save(paths[-1])
    return paths


def rows_of(entries: list[Entry | DecodeError]) -> list[int]:
    return [entry.row for entry in entries if isinstance(entry, Entry)]


def test_crops_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    paths = drawings(tmp_path, 12)
    store = FaceStore(tmp_path / "cache", FACE)
    entries = store.fill(paths, workers=4)
    for path, row in zip(paths, rows_of(entries), strict=True):
        assert (store.crops()[row] == crop(decode(path), None, FACE)).all()


def test_entries_keep_the_hashes_of_the_whole_image(tmp_path: Path) -> None:
    paths = drawings(tmp_path, 3)
    expected = np.stack([perceptual_hashes(decode(path)) for path in paths])
    for _ in range(2):  # computed, and then read back
        entries = FaceStore(tmp_path / "cache", FACE).fill(paths)
        assert (hashes_of([entry for entry in entries if isinstance(entry, Entry)]) == expected).all()


def test_at_inference_nothing_is_hashed(tmp_path: Path) -> None:
    (face,) = [module.FaceReader(FACE)(path) for path in drawings(tmp_path, 1)]
    assert isinstance(face, module.FaceCrop) and face.hashes is None


def test_an_entry_without_whole_hashes_is_damaged(tmp_path: Path) -> None:
    paths = drawings(tmp_path, 1)
    store = FaceStore(tmp_path / "cache", FACE)
    (entry,) = store.fill(paths)
    assert isinstance(entry, Entry)
    index = store.folder / "index.jsonl"
    index.write_text(index.read_text().replace(entry.hashes, entry.hashes[:-2]))
    with pytest.raises(FacecadeError, match="damaged in line 1"):
        FaceStore(tmp_path / "cache", FACE).fill(paths)


def test_a_file_is_decoded_once_even_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = drawings(tmp_path, 4)
    FaceStore(tmp_path / "cache", FACE).fill(paths)
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[2].read_bytes())
    monkeypatch.setattr(module, "decoded", lambda path: pytest.fail(f"decoded {path} again"))
    again = FaceStore(tmp_path / "cache", FACE)
    assert rows_of(again.fill([*paths, copy])) == [0, 1, 2, 3, 2]


def test_bad_files_give_errors_in_order(tmp_path: Path) -> None:
    paths = drawings(tmp_path, 3)
    paths[1].write_bytes(b"")
    entries = FaceStore(tmp_path / "cache", FACE).fill([*paths, tmp_path / "gone.png"])
    assert [type(entry) for entry in entries] == [Entry, DecodeError, Entry, DecodeError]


@pytest.mark.parametrize("cut", [1, 25])
def test_a_kill_while_writing_loses_one_crop_at_most(tmp_path: Path, cut: int) -> None:
    paths = drawings(tmp_path, 6)
    whole = FaceStore(tmp_path / "cache", FACE)
    whole.fill(paths)
    before = np.array(whole.crops())
    index = whole.folder / "index.jsonl"
    index.write_bytes(index.read_bytes()[:-cut])  # the last line is incomplete
    resumed = FaceStore(tmp_path / "cache", FACE)
    assert rows_of(resumed.fill(paths)) == list(range(6))
    assert (resumed.crops() == before).all()
    assert rows_of(FaceStore(tmp_path / "cache", FACE).fill(paths)) == list(range(6))


def test_another_geometry_has_its_own_store(tmp_path: Path) -> None:
    others = [{"size": (40, 32)}, {"align": True}, {"align": True, "template": "eyes"}]
    faces = [FACE, *(Face.model_validate({"detector": "centre", "size": (40, 30), **other}) for other in others)]
    assert len({FaceStore(tmp_path, face).folder for face in faces}) == len(faces)


def test_landmarks_are_read_back_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = ((31.4159, 52.5), (58.25, 50.1), (46.0, 66.6), (35.0, 80.0), (55.5, 79.123456789))
    boxes = [Box(10.1, 20.2, 80.3, 110.4, 0.99, points), Box(10.1, 20.2, 80.3, 110.4, 0.9), None]
    face = FACE.model_copy(update={"align": True, "detector": "mtcnn"})
    next_box = iter(boxes)
    monkeypatch.setattr(
        module, "make_all_faces_detector", lambda *_: lambda image: [box for box in [next(next_box)] if box]
    )
    paths = drawings(tmp_path, 3)
    first = FaceStore(tmp_path / "cache", face)
    entries = first.fill(paths, workers=1)
    again = FaceStore(tmp_path / "cache", face)
    assert again.fill(paths) == entries and [entry.box for entry in entries if isinstance(entry, Entry)] == boxes
    for path, box, pixels in zip(paths, boxes, again.crops(), strict=True):
        assert (pixels == crop(decode(path), box, face)).all()
