"""The page's handlers, without a browser and without networks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from stubs import encoded, explained_face, explanation

pytest.importorskip("gradio", reason="the page needs pip install -e '.[web]'")

from facecade.faces.crop import Box
from facecade.web.limits import Limits
from facecade.web.page import EMPTY_BATCH, EXAMPLES, _Handlers
from facecade.web.predictor import Predictor

PROGRESS: Any = SimpleNamespace(tqdm=lambda images, unit: images)


@pytest.fixture
def handlers(tmp_path: Path) -> _Handlers:
    boxes = [Box(0, 0, 9, 9, 0.9), Box(10, 0, 15, 9, 0.9)]
    two = explanation(*[explained_face(box, flag="several-faces") for box in boxes])
    return _Handlers(Predictor(lambda pixels, content: two, Limits()), tmp_path)


def upload(folder: Path, name: str, data: bytes) -> dict[str, str]:
    (folder / name).write_bytes(data)
    return {"path": str(folder / name), "orig_name": name}


def test_the_placeholder_is_gone_while_a_batch_is_predicted(handlers: _Handlers, tmp_path: Path) -> None:
    images = [upload(tmp_path, "a.png", encoded("PNG")), upload(tmp_path, "bad.png", b"no image")]
    first, last = list(handlers.many(images, False, PROGRESS))
    assert EMPTY_BATCH not in first[0] and "Add images" not in first[0] and "fc-working" in first[0]
    assert last[0].count("<tr>") == 3 and "2 images, 1 refused" in last[0] and last[1]["visible"]
    assert next(handlers.many(None, False, PROGRESS))[0] == EMPTY_BATCH


def test_a_batch_has_every_face_on_request(handlers: _Handlers, tmp_path: Path) -> None:
    image = upload(tmp_path, "a.png", encoded("PNG"))
    *_, (table, file) = handlers.many([image], True, PROGRESS)
    assert "1 image, 2 faces" in table and len(Path(file["value"]).read_text().splitlines()) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_are_drawn_into_the_folder_of_uploads(handlers: _Handlers, tmp_path: Path, number: int) -> None:
    first, second = Path(handlers.example(number)), Path(handlers.example(number))
    assert first.is_relative_to(tmp_path) and first.read_bytes() != second.read_bytes()
    assert Image.open(first).size == (384, 512)
    *_, (result, _) = handlers.one({"path": str(first)})
    assert "mask · man" in result
