"""One geometry: where the box is, the crop is; without a box, the centre."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import REAL, real_photographs
from PIL import Image

from faces.crop import Box, crop
from faces.decode import decode
from faces.detect import make_detector
from recipe import Face

FACE = Face(size=(60, 40), margin=0.2, fallback=0.5)


def spot(height: int, width: int, top: int, left: int, tall: int, wide: int) -> np.ndarray:
    image = np.full((height, width, 3), 50, np.uint8)
    image[top : top + tall, left : left + wide] = 250
    return image


def test_the_crop_is_the_box_with_its_margin() -> None:
    image = spot(200, 150, 60, 50, 60, 40)  # aspect of the face size, so the margin is even
    pixels = crop(image, Box(50, 60, 90, 120, 1.0), FACE)
    assert pixels.shape == (60, 40, 3) and pixels.dtype == np.uint8
    bright = pixels[..., 0] > 150
    assert bright.any(1).sum() == pytest.approx(60 / 1.2, abs=2) and bright.any(0).sum() == pytest.approx(
        40 / 1.2, abs=2
    )
    rows = np.flatnonzero(bright.any(1))
    assert rows.mean() == pytest.approx(29.5, abs=1)


def test_a_wide_box_is_taken_in_whole() -> None:
    image = spot(200, 200, 90, 40, 30, 120)
    pixels = crop(image, Box(40, 90, 160, 120, 1.0), FACE)
    assert (pixels[29, :, 0] > 150).sum() == pytest.approx(40 / 1.2, abs=2)


def test_beyond_the_photograph_is_black() -> None:
    pixels = crop(np.full((100, 100, 3), 200, np.uint8), Box(-40, -60, 40, 60, 1.0), FACE)
    assert (pixels[:20, :12] == 0).all() and (pixels[-10:, -8:] == 200).all()


@pytest.mark.parametrize(("height", "width"), [(256, 192), (100, 400), (33, 20)])
def test_without_a_box_the_centre(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2, width // 2] = 255
    image[height // 2 - 1, width // 2 - 1] = 255
    pixels = crop(image, None, FACE)
    heat = np.argwhere(pixels[..., 0] == pixels.max())
    assert heat.mean(0) == pytest.approx([29.5, 19.5], abs=2)


def test_a_rounding_error_in_the_box_does_not_move_the_crop() -> None:
    image = np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8)
    first = crop(image, Box(50.2, 60.3, 90.4, 120.1, 1.0), FACE)
    assert (first == crop(image, Box(50.2 + 1e-4, 60.3 - 1e-4, 90.4, 120.1 + 1e-4, 1.0), FACE)).all()


def test_the_centre_detector_finds_nothing_and_needs_no_network() -> None:
    assert make_detector(Face(detector="centre"))(np.zeros((100, 100, 3), np.uint8)) is None


def test_mtcnn_finds_no_face_in_noise_or_in_a_tiny_picture() -> None:
    detect = make_detector(Face())
    assert detect(np.zeros((300, 200, 3), np.uint8)) is None
    assert detect(np.zeros((10, 10, 3), np.uint8)) is None


@real_photographs
def test_mtcnn_finds_the_faces_of_real_photographs() -> None:
    face = Face(thresholds=(0.5, 0.6, 0.6))
    detect = make_detector(face)
    people = sorted((REAL / "train/images").iterdir())[:8]
    photographs = [decode(path) for person in people for path in sorted(person.iterdir())]
    boxes = [detect(photograph) for photograph in photographs]
    found = [box for box in boxes if box]
    assert len(found) >= 0.8 * len(boxes)
    for box in found:
        assert 50 < box.bottom - box.top < 260 and 0.5 < box.probability <= 1
    # a photograph four times as large has its face in the same place
    large = np.asarray(Image.fromarray(photographs[0]).resize((192 * 6, 256 * 6), Image.Resampling.BICUBIC))
    small_box, large_box = detect(photographs[0]), detect(large)
    assert small_box and large_box and large_box.left / 6 == pytest.approx(small_box.left, abs=8)


def test_a_strip_has_no_face_and_does_no_harm() -> None:
    """Made smaller for MTCNN, it is narrower than the smallest face."""
    detector = make_detector(Face(detector="mtcnn", min_face=60))
    assert detector(np.full((4000, 200, 3), 128, np.uint8)) is None
