"""The crop is at the box; without a box, at the center."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import REAL, real_images
from PIL import Image

from facecade.faces.crop import TEMPLATES, Box, Point, box_from_values, crop
from facecade.faces.decode import decode
from facecade.faces.detect import make_all_faces_detector
from facecade.recipe import Face

FACE = Face(size=(60, 40), margin=0.2, fallback=0.5)


def image_with_spot(height: int, width: int, top: int, left: int, tall: int, wide: int) -> np.ndarray:
    image = np.full((height, width, 3), 50, np.uint8)
    image[top : top + tall, left : left + wide] = 250
    return image


def test_the_crop_is_the_box_with_its_margin() -> None:
    image = image_with_spot(200, 150, 60, 50, 60, 40)  # the aspect of face.size, so the margin is equal on all sides
    pixels = crop(image, Box(50, 60, 90, 120, 1.0), FACE)
    assert pixels.shape == (60, 40, 3) and pixels.dtype == np.uint8
    bright = pixels[..., 0] > 150
    assert bright.any(1).sum() == pytest.approx(60 / 1.2, abs=2) and bright.any(0).sum() == pytest.approx(
        40 / 1.2, abs=2
    )
    rows = np.flatnonzero(bright.any(1))
    assert rows.mean() == pytest.approx(29.5, abs=1)


def test_a_wide_box_is_completely_in_the_crop() -> None:
    image = image_with_spot(200, 200, 90, 40, 30, 120)
    pixels = crop(image, Box(40, 90, 160, 120, 1.0), FACE)
    assert (pixels[29, :, 0] > 150).sum() == pytest.approx(40 / 1.2, abs=2)


def test_beyond_the_image_is_black() -> None:
    pixels = crop(np.full((100, 100, 3), 200, np.uint8), Box(-40, -60, 40, 60, 1.0), FACE)
    assert (pixels[:20, :12] == 0).all() and (pixels[-10:, -8:] == 200).all()


@pytest.mark.parametrize(("height", "width"), [(256, 192), (100, 400), (33, 20)])
def test_without_a_box_the_center_is_cropped(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2, width // 2] = 255
    image[height // 2 - 1, width // 2 - 1] = 255
    pixels = crop(image, None, FACE)
    brightest = np.argwhere(pixels[..., 0] == pixels.max())
    assert brightest.mean(0) == pytest.approx([29.5, 19.5], abs=2)


def test_a_rounding_error_in_the_box_does_not_change_the_crop() -> None:
    image = np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8)
    first = crop(image, Box(50.2, 60.3, 90.4, 120.1, 1.0), FACE)
    assert (first == crop(image, Box(50.2 + 1e-4, 60.3 - 1e-4, 90.4, 120.1 + 1e-4, 1.0), FACE)).all()


def make_detector(face: Face) -> Callable[[np.ndarray], Box | None]:
    """Image → its largest face."""
    detect = make_all_faces_detector(face)
    return lambda image: next(iter(detect(image)), None)


def test_the_center_detector_returns_no_box() -> None:
    assert make_detector(Face(detector="centre"))(np.zeros((100, 100, 3), np.uint8)) is None


def test_mtcnn_finds_no_face_in_noise_or_in_a_tiny_image() -> None:
    detect = make_detector(Face())
    assert detect(np.zeros((300, 200, 3), np.uint8)) is None
    assert detect(np.zeros((10, 10, 3), np.uint8)) is None


@real_images
def test_mtcnn_finds_the_faces_of_real_images() -> None:
    face = Face(thresholds=(0.5, 0.6, 0.6))
    detect = make_detector(face)
    people = sorted((REAL / "train/images").iterdir())[:8]
    images = [decode(path) for person in people for path in sorted(person.iterdir())]
    boxes = [detect(image) for image in images]
    found = [box for box in boxes if box]
    assert len(found) >= 0.8 * len(boxes)
    for box in found:
        assert 50 < box.bottom - box.top < 260 and 0.5 < box.probability <= 1
    # an image four times as large has its face in the same place
    large = np.asarray(Image.fromarray(images[0]).resize((192 * 6, 256 * 6), Image.Resampling.BICUBIC))
    small_box, large_box = detect(images[0]), detect(large)
    assert small_box and large_box and large_box.left / 6 == pytest.approx(small_box.left, abs=8)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (2, 50_000)])
def test_a_line_is_an_image_without_a_face(shape: tuple[int, int]) -> None:
    """Scaled for the detector, its other side would have no pixel."""
    line = np.full((*shape, 3), 128, np.uint8)
    face = Face(size=(48, 36))
    box = make_detector(face)(line)
    assert box is None and crop(line, box, face).shape == (48, 36, 3)


def test_a_narrow_image_has_no_face() -> None:
    """Reduced to MAX_SIDE, it is narrower than the smallest face."""
    detector = make_detector(Face(detector="mtcnn", min_face=60))
    assert detector(np.full((4000, 200, 3), 128, np.uint8)) is None


# Aligned crops

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]

UPRIGHT = np.array(TEMPLATES["arcface"])


def dotted(side: int, scale: float, degrees: float, middle: Point) -> tuple[np.ndarray, tuple[Point, ...]]:
    """A square image with five coloured dots at the rotated and scaled landmarks of a face, and their positions."""
    angle = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (UPRIGHT - 0.5) @ matrix.T + middle
    image, radius = np.full((side, side, 3), 60.0), 0.05 * scale
    rows, columns = np.indices((side, side)) + 0.5
    for (x, y), colour in zip(points.tolist(), COLOURS, strict=True):
        share = np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)[..., None]
        image = image * (1 - share) + np.array(colour) * share
    return image.round().astype(np.uint8), tuple((x, y) for x, y in points.tolist())


def dot_position(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Position of a dot, x and y: the mean of its pixels, weighted by their similarity to the colour."""
    near = np.clip(1 - np.abs(pixels.astype(float) - colour).sum(2) / 200, 0, None)
    assert near.sum() > 1, f"no dot of colour {colour}"
    rows, columns = np.indices(near.shape) + 0.5
    return np.array([(near * columns).sum(), (near * rows).sum()]) / near.sum()


def template_landmarks(face: Face) -> np.ndarray:
    """The template's landmarks in pixels of the crop."""
    height, width = face.size
    return (UPRIGHT - 0.5) * height / (1 + face.margin) + (width / 2, height / 2)


@pytest.mark.parametrize("template", ["arcface", "eyes"])
@pytest.mark.parametrize(
    ("side", "scale", "degrees", "middle"),
    [
        (300, 112, 0, (150, 150)),
        (300, 80, 30, (140, 160)),
        (300, 150, -75, (150, 140)),
        (300, 150, 180, (150, 150)),
        (1200, 700, -20, (600, 500)),
        (1600, 1000, 100, (700, 801)),
    ],
)
def test_an_aligned_crop_has_the_landmarks_of_the_template(
    template: str, side: int, scale: float, degrees: float, middle: Point
) -> None:
    image, landmarks = dotted(side, scale, degrees, middle)
    face = Face.model_validate({"size": (144, 112), "margin": 0.3, "align": True, "template": template})
    pixels = crop(image, Box(1, 2, 3, 4, 1.0, landmarks), face)
    assert pixels.shape == (144, 112, 3) and pixels.dtype == np.uint8
    for colour, expected in zip(COLOURS, template_landmarks(face), strict=True):
        assert dot_position(pixels, colour) == pytest.approx(expected, abs=0.5)


def test_the_eyes_template_uses_only_the_eyes() -> None:
    image, landmarks = dotted(300, 112, 10, (150, 150))
    moved = (*landmarks[:2], (10.0, 20.0), (30.0, 280.0), (200.0, 5.0))
    eyes, all_five = (Face(align=True, template=template) for template in ("eyes", "arcface"))
    first, second = (crop(image, Box(0, 0, 9, 9, 1.0, points), eyes) for points in (landmarks, moved))
    assert (first == second).all()
    assert (crop(image, Box(0, 0, 9, 9, 1.0, moved), all_five) != second).any()


def test_margin_makes_an_aligned_face_smaller() -> None:
    image, landmarks = dotted(400, 112, 0, (200, 200))
    eye_distances = []
    for margin in (0.0, 1.0):
        pixels = crop(image, Box(0, 0, 9, 9, 1.0, landmarks), Face(size=(112, 112), margin=margin, align=True))
        eye_distances.append(dot_position(pixels, COLOURS[1])[0] - dot_position(pixels, COLOURS[0])[0])
    assert eye_distances[0] == pytest.approx(2 * eye_distances[1], abs=0.5)
    assert eye_distances[0] == pytest.approx(73.5318 - 38.2946, abs=0.5), "without a margin as in InsightFace"


def test_a_rounding_error_in_a_landmark_does_not_change_the_crop() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    landmarks = ((120.1, 130.2), (170.3, 128.6), (146.7, 150.1), (128.4, 180.2), (165.1, 178.9))
    face, errors = Face(align=True), np.random.default_rng(1).uniform(-1e-3, 1e-3, (20, 5, 2))
    first = crop(image, Box(0, 0, 9, 9, 1.0, landmarks), face)
    for error in errors:
        other = tuple((float(x), float(y)) for x, y in np.array(landmarks) + error)
        assert (crop(image, Box(0, 0, 9, 9, 1.0, other), face) == first).all()


def test_a_large_image_is_averaged() -> None:
    """A chessboard of single pixels becomes gray; with only four pixels each, some would be black or white."""
    board = (np.indices((2400, 2400)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    _, landmarks = dotted(2400, 1200, 15, (1200, 1200))
    pixels = crop(board, Box(0, 0, 9, 9, 1.0, landmarks), Face(size=(112, 112), align=True))
    assert pixels[20:-20, 20:-20].astype(int).min() > 110 and pixels.max() < 145


def test_beyond_the_image_an_aligned_crop_is_black() -> None:
    _, landmarks = dotted(300, 112, 0, (0, 0))
    pixels = crop(np.full((300, 300, 3), 200, np.uint8), Box(0, 0, 9, 9, 1.0, landmarks), Face(align=True))
    assert (pixels[:40, :30] == 0).all() and (pixels[-20:, -20:] == 200).all()


def test_alignment_changes_nothing_without_landmarks_or_without_a_face() -> None:
    image = np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8)
    plain, aligned = Face(size=(60, 40)), Face(size=(60, 40), align=True)
    for box in (None, Box(50, 60, 90, 120, 1.0)):
        assert (crop(image, box, plain) == crop(image, box, aligned)).all()
    landmarks = dotted(150, 60, 0, (70, 80))[1]
    with_landmarks = Box(50, 60, 90, 120, 1.0, landmarks)
    assert (crop(image, with_landmarks, plain) == crop(image, Box(50, 60, 90, 120, 1.0), plain)).all()
    assert (crop(image, with_landmarks, plain) != crop(image, with_landmarks, aligned)).any()


@pytest.mark.parametrize("point", [(0.0, 0.0), (70.0, 80.0), (-1e6, 1e6)])
def test_equal_landmarks_raise_no_error(point: Point) -> None:
    for template in ("arcface", "eyes"):
        face = Face.model_validate({"size": (60, 40), "align": True, "template": template})
        assert crop(np.full((200, 150, 3), 9, np.uint8), Box(0, 0, 9, 9, 1.0, (point,) * 5), face).shape == (60, 40, 3)


def test_a_box_is_restored_from_its_values() -> None:
    for box in (Box(1.5, 2, 3, 4, 0.9), Box(1.5, 2, 3, 4, 0.9, dotted(99, 50, 3, (40, 50))[1])):
        assert box_from_values(box.values) == box
    with pytest.raises(ValueError):
        box_from_values([1, 2, 3, 4, 0.9, 5])


@real_images
def test_eyes_of_real_faces_are_at_the_template() -> None:
    """Detected again in the aligned crop, they are at the template's eyes."""
    face = Face(size=(160, 160), margin=0.6, align=True, min_face=30)
    detect = make_detector(face)
    people, errors = sorted((REAL / "train/images").iterdir())[30:36], []
    for person in people:
        image = decode(next(iter(person.glob("normal*"))))
        rotated = np.asarray(Image.fromarray(image).rotate(20, expand=True))
        box = detect(rotated)
        box_in_crop = detect(crop(rotated, box, face)) if box else None
        if box_in_crop:
            errors.append(np.array(box_in_crop.landmarks[:2]) - (np.array(template_landmarks(face))[:2]))
    assert len(errors) >= 4 and np.abs(errors).mean() < 4
