"""Images keep their order, readable or not, and are never read far ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.decode import DecodeError
from facecade.faces.reader import FaceCrop, FaceReader
from facecade.faces.synthetic import draw_face
from facecade.inference.ensemble import Ensemble, Member
from facecade.inference.stream import BatchOutputs, regroup, stream
from facecade.recipe import Face

FACE = Face(detector="centre", size=(20, 16))


def brightness(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that outputs the mean brightness of each crop."""
    mean = crops.mean((1, 2, 3), dtype=np.float32)[:, None]
    return np.tile(mean, 2), mean


def ensemble(model: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], batch: int = 4) -> Ensemble:
    members = [Member(["mask"], [fold], (10, 8), model) for fold in range(3)]
    return Ensemble(members, {"mask": ("bright",)}, batch, 2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fifty paths: of the first thirty every third does not exist, of the last twenty none."""
    folder, names = tmp_path_factory.mktemp("images"), []
    for number in range(50):
        names.append(folder / f"{number}.png")
        if number % 3 and number < 30:
            draw_face("normal", "male", 40, number, 0).save(names[-1])
    return names


def test_every_image_is_predicted_once_in_order(paths: list[Path]) -> None:
    parts = list(stream(paths, FaceReader(FACE), ensemble(brightness), 2))
    faces = [face for part in parts for face in part.faces]
    assert [isinstance(face, FaceCrop) for face in faces] == [path.exists() for path in paths]
    for part in parts:
        logits = part.stage_outputs[1].logits["mask"]
        assert part.stage_outputs.keys() == {0, 1, 2} and len(logits) == part.readable.sum() <= 4
        crops = [face.crop for face in part.faces if isinstance(face, FaceCrop)]
        np.testing.assert_allclose(logits[:, 0], [crop.mean() for crop in crops], atol=3)  # at another size
        errors = [str(face) for face in part.faces if isinstance(face, DecodeError)]
        assert all("no such file" in text for text in errors)


def test_reading_does_not_run_far_ahead_of_the_networks(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    call = FaceReader.__call__
    monkeypatch.setattr(FaceReader, "__call__", lambda self, path: read.append(path) or call(self, path))
    existing = [path for path in paths if path.exists()] * 20
    first = next(stream(existing, FaceReader(FACE), ensemble(brightness), 2))
    assert len(first.faces) == 4 and len(read) < 30 < len(existing)


def test_error_of_a_network_is_raised(paths: list[Path]) -> None:
    def broken(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        list(stream(paths, FaceReader(FACE), ensemble(broken), 2))


def test_regroup_joins_batches_to_larger_ones() -> None:
    def part(*values: float) -> BatchOutputs:
        column = np.array(values, np.float32)[:, None]
        faces = [FaceCrop(str(value), None, np.empty((1, 1, 3), np.uint8)) for value in values]
        return BatchOutputs(faces, {0: StageOutputs({"mask": column}, {"mask": ("bright",)}, {"mask": column})})

    counts: list[int] = []
    batches = list(regroup([part(1, 2), part(3), part(4, 5), part(6)], 3, counts.append))
    assert counts == [2, 1, 2, 1]
    assert [[face.content for face in batch.faces if isinstance(face, FaceCrop)] for batch in batches] == [
        ["1", "2", "3"], ["4", "5", "6"]
    ]  # fmt: skip
    assert batches[1].stage_outputs[0].logits["mask"][:, 0].tolist() == [4, 5, 6]
    assert [len(batch.faces) for batch in regroup([part(1), part(2)], 64, counts.append)] == [2]
