"""Images keep their order, whatever can be seen of them, and are never read far ahead."""

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
from facecade.inference.stream import BatchOutputs, regrouped, stream
from facecade.recipe import Face

FACE = Face(detector="centre", size=(20, 16))


def brightness(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that says how bright its crops are."""
    mean = crops.mean((1, 2, 3), dtype=np.float32)[:, None]
    return np.tile(mean, 2), mean


def ensemble(model: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], batch: int = 4) -> Ensemble:
    members = [Member(["mask"], [fold], (10, 8), model) for fold in range(3)]
    return Ensemble(members, {"mask": ("bright",)}, batch, 2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty names: every third is no file, and of the last twenty all."""
    folder, names = tmp_path_factory.mktemp("images"), []
    for number in range(50):
        names.append(folder / f"{number}.png")
        if number % 3 and number < 30:
            draw_face("normal", "male", 40, number, 0).save(names[-1])
    return names


def test_every_image_is_heard_once_in_its_order(paths: list[Path]) -> None:
    parts = list(stream(paths, FaceReader(FACE), ensemble(brightness), 2))
    looks = [look for part in parts for look in part.faces]
    assert [isinstance(look, FaceCrop) for look in looks] == [path.exists() for path in paths]
    for part in parts:
        said = part.stage_outputs[1].logits["mask"]
        assert part.stage_outputs.keys() == {0, 1, 2} and len(said) == part.seen.sum() <= 4
        crops = [look.crop for look in part.faces if isinstance(look, FaceCrop)]
        np.testing.assert_allclose(said[:, 0], [crop.mean() for crop in crops], atol=3)  # at another size
        unseen = [str(look) for look in part.faces if isinstance(look, DecodeError)]
        assert all("no such file" in text for text in unseen)


def test_no_more_is_read_than_the_networks_can_take(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    look = FaceReader.__call__
    monkeypatch.setattr(FaceReader, "__call__", lambda self, path: read.append(path) or look(self, path))
    visible = [path for path in paths if path.exists()] * 20
    first = next(stream(visible, FaceReader(FACE), ensemble(brightness), 2))
    assert len(first.faces) == 4 and len(read) < 30 < len(visible)


def test_what_a_network_raises_is_raised(paths: list[Path]) -> None:
    def broken(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        list(stream(paths, FaceReader(FACE), ensemble(broken), 2))


def test_pieces_are_gathered_to_larger_ones() -> None:
    def part(*values: float) -> BatchOutputs:
        column = np.array(values, np.float32)[:, None]
        looks = [FaceCrop(str(value), None, np.empty((1, 1, 3), np.uint8)) for value in values]
        return BatchOutputs(looks, {0: StageOutputs({"mask": column}, {"mask": ("bright",)}, {"mask": column})})

    seen: list[int] = []
    pieces = list(regrouped([part(1, 2), part(3), part(4, 5), part(6)], 3, seen.append))
    assert seen == [2, 1, 2, 1]
    assert [[look.content for look in piece.faces if isinstance(look, FaceCrop)] for piece in pieces] == [
        ["1", "2", "3"], ["4", "5", "6"]
    ]  # fmt: skip
    assert pieces[1].stage_outputs[0].logits["mask"][:, 0].tolist() == [4, 5, 6]
    assert [len(piece.faces) for piece in regrouped([part(1), part(2)], 64, seen.append)] == [2]
