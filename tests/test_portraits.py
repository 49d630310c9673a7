"""The released cascade on real photographs: portraits in the public domain, which come with every clone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import succeed

import facecade
from facecade.api import Cascade
from facecade.base.released import RELEASED, seen
from facecade.faces.labels import BANDS, band_of

ROOT = Path(__file__).resolve().parents[1]
PORTRAITS = {
    ROOT / "docs/portrait.jpg": ("female", 40),
    ROOT / "tests/portraits/man-51.jpg": ("male", 51),
    ROOT / "tests/portraits/woman-77.jpg": ("female", 77),
}


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return facecade.load(RELEASED, engine="onnx")


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_a_portrait_is_predicted_right(cascade: Cascade, path: Path) -> None:
    gender, age = PORTRAITS[path]
    prediction = cascade.predict(path)[0]
    assert (prediction.mask, prediction.gender, prediction.band) == ("normal", gender, BANDS[band_of(age)])
    assert abs(prediction.age - age) < 12
    assert prediction.box and prediction.faces == 1 and set(prediction.flags) <= {"unsure"}


def test_the_command_says_the_same(cascade: Cascade) -> None:
    path = ROOT / "tests/portraits/man-51.jpg"
    printed = succeed("predict", path, "--artifacts", RELEASED, "--engine", "onnx")
    assert printed.startswith(f"{path.name}: {cascade.predict(path)[0].words}\n")


def test_what_it_was_trained_on_is_known_by_hashes_alone() -> None:
    assert len(seen()) > 20_000 - 1_500 and all(re.fullmatch("[0-9a-f]{32}", each) for each in seen())
