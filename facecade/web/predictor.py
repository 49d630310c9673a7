"""An image → what a fitted cascade answers for it, and why; one at a time, whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from facecade.base.files import content_hash
from facecade.base.machine import Machine
from facecade.inference.explain import Explainer, Explanation
from facecade.inference.explain_image import attention_overlays
from facecade.inference.exported import is_export
from facecade.inference.loading import load_cascade
from facecade.runs.run import open_run
from facecade.web.limits import Limits, read_image

Maps = Callable[[np.ndarray], Mapping[str, np.ndarray]]

MAPPED = 4
"""Faces of an image of which it is shown where the networks looked: each costs every network a pass forth and back."""


@dataclass(frozen=True)
class PredictedImage:
    """image: uint8 (height, width, 3), RGB."""

    name: str
    image: np.ndarray
    explanation: Explanation


class Predictor:
    """A fitted cascade that many may ask at once.

    One image is unpacked and answered for at a time: networks use every core by themselves, more at once would only
    wait for each other, and memory holds one image however many people ask. A batch gives way after each of its images.
    """

    def __init__(
        self,
        explain: Callable[[np.ndarray, str], Explanation],
        limits: Limits,
        maps: Maps | None = None,
        unmapped: str = "",
    ) -> None:
        """
        Args:
            explain: of pixels, uint8 (height, width, 3), RGB, and the fingerprint of their file.
            maps: of crops, uint8 (N, h, w, 3), the same with a network's attention laid over them, by what it was asked.
            unmapped: why there are none, where there are none.
        """
        self.explain, self.limits = explain, limits
        self.maps, self.unmapped = maps, unmapped
        self._one_at_a_time = Lock()

    @classmethod
    def open(cls, folder: Path, machine: Machine, limits: Limits) -> Predictor:
        """Those of a run's folder, or of an export's."""
        explainer = Explainer(load_cascade(folder, machine, images=1))
        maps, unmapped = None, ""
        if is_export(folder):
            unmapped = "An export holds no networks of torch, by which one sees where they look: serve the run itself."
        elif not _has_grad_cam():
            unmapped = "Where the networks look is shown by grad-cam: pip install 'facecade[report]'."
        else:
            maps = partial(attention_overlays, open_run(folder), machine=machine)
        return cls(explainer, limits, maps, unmapped)

    def __call__(self, path: Path, name: str) -> PredictedImage:
        """Answer for a file that somebody calls `name`; raises RefusedError (web/limits.py)."""
        with self._one_at_a_time:
            image = read_image(path, self.limits)
            return PredictedImage(name, image, self.explain(image, content_hash(path)))

    def attention_overlays(self, predicted: PredictedImage) -> Mapping[str, np.ndarray]:
        """The crops (N, h, w, 3) of the first faces, with where each network looked laid over them."""
        if self.maps is None:
            return {}
        crops = np.stack([face.crop for face in predicted.explanation.faces[:MAPPED]])
        with self._one_at_a_time:
            return self.maps(crops)


def _has_grad_cam() -> bool:
    from importlib.util import find_spec

    return find_spec("pytorch_grad_cam") is not None
