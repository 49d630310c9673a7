"""Only images with a small margin run again in fp32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.crop import Box
from facecade.faces.decode import DecodeError
from facecade.faces.reader import FaceCrop
from facecade.inference.ensemble import Ensemble
from facecade.inference.fallback import Fallback, margin_error, recompute_close_calls
from facecade.inference.stream import BatchOutputs


def stage_outputs(logits: np.ndarray) -> StageOutputs:
    return StageOutputs({"mask": logits}, {"mask": ("wear", "incorrect", "normal")}, {"mask": logits[:, :1]})


class ColorEnsemble(Ensemble):
    """Outputs a crop's only color as the logits."""

    def __init__(self) -> None:
        super().__init__([], {}, batch=2, streams=1)
        object.__setattr__(self, "requested", [])

    def predict_chunks(self, chunks: Iterable[np.ndarray]) -> Iterator[dict[int, StageOutputs]]:
        for crops in chunks:
            assert len(crops) <= self.batch
            color = crops[:, 0, 0].astype(float)
            self.requested += crops[:, 0, 0, 0].tolist()  # type: ignore[attr-defined]
            yield {0: stage_outputs(color), 1: stage_outputs(color + 1)}


def batch_of(faces: list[FaceCrop | DecodeError], count: int) -> BatchOutputs:
    return BatchOutputs(faces, {fold: stage_outputs(np.zeros((count, 3))) for fold in range(2)})


def face_of(color: int) -> FaceCrop:
    return FaceCrop(f"{color}", Box(0, 0, 1, 1, 1.0), np.full((2, 2, 3), color, np.uint8))


def test_only_close_calls_run_again() -> None:
    exact = ColorEnsemble()
    faces = [face_of(10), DecodeError(Path("x"), "no such file"), face_of(20), face_of(30), face_of(40)]
    margins = np.array([0.1, 0.3, 0.0, 0.2])
    after = recompute_close_calls(batch_of(faces, 4), lambda _: margins, Fallback(lambda: exact, 0.25))
    assert exact.requested == [10, 30, 40]  # type: ignore[attr-defined]
    assert after.stage_outputs[0].logits["mask"][:, 0].tolist() == [10, 0, 30, 40]
    assert after.stage_outputs[1].logits["mask"][:, 0].tolist() == [11, 0, 31, 41]
    assert after.stage_outputs[1].embedding["mask"][:, 0].tolist() == [11, 0, 31, 41]


@pytest.mark.parametrize("faces", [[], [DecodeError(Path("x"), "no such file")], [face_of(1), face_of(2)]])
def test_without_close_calls_the_exact_networks_are_not_loaded(faces: list[FaceCrop | DecodeError]) -> None:
    before = batch_of(faces, sum(isinstance(face, FaceCrop) for face in faces))

    def never() -> Ensemble:
        raise AssertionError("loaded")

    assert recompute_close_calls(before, lambda each: np.full(len(each), 0.25), Fallback(never, 0.25)) is before


def test_margin_error_is_the_largest_change_of_a_margin() -> None:
    """The margin of the best class of the exact scores over their second, whichever is best after rounding."""
    exact = np.zeros((4, 18))
    exact[:, 0], exact[:, 1] = [4, 3, 2, 1], [1, 1, 1, 0.9]
    rough = exact + np.where(np.arange(18) == 1, [[0.1], [-0.2], [0], [0.3]], 0)
    assert np.isclose(margin_error(rough, exact), 0.3)


def test_margin_is_that_of_the_weighted_decision() -> None:
    from facecade.combiner.decision import decide, margin

    probability = np.full((2, 18), 1e-9)
    probability[:, 0], probability[0, 1], probability[1, 2] = 0.5, 0.25, 0.1
    weights = np.array([0.0, np.log(4), 0.0, 0.0, 0.0, 0.0])
    assert decide(probability, weights).tolist() == [1, 0]
    np.testing.assert_allclose(margin(probability, weights), np.log([2, 5]), rtol=1e-6)
