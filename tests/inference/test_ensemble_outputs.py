"""What a network gives is checked: its manifest may say other shapes than it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.detect import make_all_faces_detector
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.inference.ensemble import Ensemble, Member
from facecade.inference.exported import checked_net
from facecade.recipe import Face

CROPS = np.zeros((3, 20, 16, 3), np.uint8)
EMBEDDING, LOGITS = np.ones((4, 5), np.float32), np.ones((4, 2), np.float32)


def predict(*outputs: np.ndarray) -> int:
    """Rows that an ensemble of one stage and two folds predicts, if the second network gives these outputs."""
    members = [
        Member(("gender",), (fold,), (20, 16), lambda _, given=given: given)  # type: ignore[misc]
        for fold, given in enumerate(([EMBEDDING, LOGITS], outputs))
    ]
    ensemble = Ensemble(members, {"gender": ("male", "female")}, 4, 1)
    return len(ensemble.predict_all(CROPS)[1])


def test_right_outputs_are_taken() -> None:
    padding = LOGITS.copy()
    padding[3] = np.nan  # of a black image that only fills the batch
    assert predict(EMBEDDING, LOGITS) == predict(EMBEDDING, padding) == 3


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (EMBEDDING,),
        (EMBEDDING, LOGITS, LOGITS),
        (EMBEDDING, LOGITS[:3]),
        (EMBEDDING, LOGITS[:, :1]),
        (EMBEDDING[:, :4], LOGITS),
        (EMBEDDING, LOGITS[..., None]),
        (EMBEDDING, LOGITS * np.nan),
        (EMBEDDING * np.inf, LOGITS),
        (EMBEDDING, LOGITS.astype(int)),
        (EMBEDDING, LOGITS.astype(str)),
        (np.float32(1), np.float32(1)),
    ],
)
def test_other_outputs_are_refused(outputs: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(FacecadeError, match=r"the network of gender \(fold 1\) gives outputs of another shape"):
        predict(*outputs)


def net(
    count: int, *shape: int, value: float = 0.0, landmarks: bool = False
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A network of MTCNN that gives the same number everywhere."""
    shapes = [(count, 4, *shape), (count, *shape), *[(count, 10)] * landmarks]
    return lambda pixels: [np.full(each, value, np.float32) for each in shapes]


def test_outputs_of_the_face_detector_are_checked() -> None:
    one, two = np.zeros((1, 3, 24, 24), np.float32), np.zeros((2, 3, 24, 24), np.float32)
    for name, right, pixels in (
        ("pnet", net(1, 3, 4), one),
        ("rnet", net(2), two),
        ("onet", net(2, landmarks=True), two),
    ):
        assert len(checked_net(right, name)(pixels)) == 2 + (name == "onet")
        for wrong in (net(3), net(2, 5), net(1, 3, 4, 5), lambda pixels: [], net(2, value=np.nan)):
            with pytest.raises(FacecadeError, match=f"the network {name} of the face detector"):
                checked_net(wrong, name)(pixels)


@pytest.mark.parametrize("offset", [1e6, 1e30, -1e9])
def test_face_far_outside_its_image_is_no_face(offset: float) -> None:
    """A crop of it would need terabytes."""

    def pnet(pixels: np.ndarray) -> list[np.ndarray]:
        rows, columns = pixels.shape[2] // 2 - 5, pixels.shape[3] // 2 - 5
        return [np.zeros((1, 4, rows, columns), np.float32), np.ones((1, rows, columns), np.float32)]

    def rnet(pixels: np.ndarray) -> list[np.ndarray]:
        return [np.zeros((len(pixels), 4), np.float32), np.ones(len(pixels), np.float32)]

    def onet(pixels: np.ndarray) -> list[np.ndarray]:
        offsets = np.tile(np.array([0, 0, offset, offset], np.float32), (len(pixels), 1))
        return [offsets, np.ones(len(pixels), np.float32), np.zeros((len(pixels), 10), np.float32)]

    detect = make_all_faces_detector(Face(min_face=20), MTCNNNetworks(pnet, rnet, onet))
    with np.errstate(all="ignore"), pytest.raises(FacecadeError, match="far outside the image"):
        detect(np.zeros((60, 60, 3), np.uint8))
