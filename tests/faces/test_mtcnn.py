"""Our MTCNN gives the same boxes and landmarks as facenet-pytorch."""

from __future__ import annotations

from pathlib import Path

import facenet_pytorch
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REAL, real_images
from PIL import Image

from facecade.faces.decode import decode
from facecade.faces.detect import make_all_faces_detector
from facecade.faces.mtcnn import MTCNN, N_LANDMARKS, area_resize, non_max_suppression
from facecade.faces.mtcnn_networks import torch_nets
from facecade.faces.synthetic import draw_face
from facecade.recipe import Face

ROOT = Path(__file__).resolve().parents[2]


def assert_same_boxes(images: list[np.ndarray], thresholds: tuple[float, float, float]) -> int:
    """Compare all boxes of all images; returns their number."""
    theirs = facenet_pytorch.MTCNN(min_face_size=40, thresholds=list(thresholds), keep_all=True, device="cpu").eval()
    ours, count = MTCNN(torch_nets(), 40, thresholds), 0
    for image in images:
        boxes, probability, landmarks = theirs.detect(image, landmarks=True)
        expected = np.empty((0, 15))
        if boxes is not None:
            parts = boxes, probability, np.asarray(landmarks, float).reshape(len(boxes), 10)
            expected = np.column_stack([np.asarray(part, float) for part in parts])
        found = ours(image)
        assert found.shape == expected.shape
        order, other = np.lexsort(found.T), np.lexsort(expected.T)
        np.testing.assert_allclose(found[order], expected[other], atol=1e-2)
        count += len(found)
    return count


def test_boxes_of_drawn_faces_equal_facenet_pytorch() -> None:
    drawn = [np.asarray(draw_face("normal", "male", 40, number, 0).resize((180, 240))) for number in range(4)]
    assert assert_same_boxes(drawn, (0.3, 0.1, 0.1)) >= 4  # MTCNN hardly detects drawn faces


@real_images
def test_boxes_of_real_images_equal_facenet_pytorch() -> None:
    people = sorted((REAL / "train/images").iterdir())[10:13]
    images = [decode(path) for person in people for path in sorted(person.iterdir())]
    assert assert_same_boxes(images, (0.5, 0.6, 0.6)) >= 15


@pytest.mark.parametrize("size", [(24, 24), (7, 50), (61, 53)])
def test_area_resize_equals_torch_area_interpolation(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).random((61, 53, 3), np.float32)
    expected = F.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None], size, mode="area")
    np.testing.assert_allclose(area_resize(pixels, *size), expected[0].permute(1, 2, 0).numpy(), atol=1e-6)


def test_non_max_suppression_keeps_the_most_probable_box() -> None:
    boxes = np.array([[0, 0, 10, 10, 0.8], [0, 0, 10, 8, 0.9], [20, 20, 30, 30, 0.7], [22, 22, 24, 24, 0.6]])
    assert non_max_suppression(boxes, 0.7).tolist() == [1, 2, 3]  # 80 of 100 shared by the first two
    assert non_max_suppression(boxes, 0.81).tolist() == [1, 0, 2, 3]
    assert non_max_suppression(boxes, 0.7, of_smaller=True).tolist() == [1, 2]  # the last is inside the third
    assert non_max_suppression(np.empty((0, 5)), 0.7).tolist() == []


def test_no_face_gives_no_box() -> None:
    mtcnn = MTCNN(torch_nets(), 60, (0.6, 0.7, 0.7))
    for shape in ((300, 200, 3), (59, 400, 3), (1, 1, 3)):
        assert mtcnn(np.zeros(shape, np.uint8)).shape == (0, 15)


@real_images
def test_landmarks_are_inside_the_box_in_pixels_of_the_image() -> None:
    """Left eye, right eye, nose, mouth from top to bottom; also for an image that is reduced before detection."""
    image = decode(next(iter(sorted((REAL / "train/images").iterdir())[10].glob("normal*"))))
    large = np.asarray(Image.fromarray(image).resize([6 * side for side in image.shape[1::-1]]))
    for pixels in (image, large):
        box, *_ = make_all_faces_detector(Face())(pixels)
        assert len(box.landmarks) == N_LANDMARKS
        left, right, nose, *mouth = box.landmarks
        assert left[0] < nose[0] < right[0] and max(left[1], right[1]) < nose[1] < min(y for _, y in mouth)
        assert mouth[0][0] < mouth[1][0]
        for x, y in box.landmarks:
            assert box.left < x < box.right and box.top < y < box.bottom


def test_boxes_of_the_portrait_equal_facenet_pytorch() -> None:
    """A real face, in the public domain, on any machine."""
    portrait = decode(ROOT / "docs/portrait.jpg")
    assert assert_same_boxes([portrait], (0.6, 0.7, 0.7)) == 1
