"""Predicts and explains one image at a time with a fitted cascade; thread-safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from facecade.base.files import content_hash
from facecade.base.machine import Machine
from facecade.base.program import install
from facecade.faces.words import NO_DETECTOR, NOT_FOR_DECISIONS
from facecade.inference.explain import Explainer, Explanation
from facecade.inference.explain_image import attention_overlays
from facecade.inference.loading import load_cascade, open_fitted
from facecade.inference.released import is_released
from facecade.report.risk_text import setting_text
from facecade.runs.run import Run
from facecade.web.limits import Limits, read_image

OverlayFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]

MAX_ATTENTION_FACES = 4
"""Faces of an image with attention maps: each takes a forward and a backward pass of every network."""


@dataclass(frozen=True)
class PredictedImage:
    """image: uint8 (height, width, 3), RGB."""

    name: str
    image: np.ndarray
    explanation: Explanation


class Predictor:
    """A fitted cascade that several threads may call.

    One image is decoded and predicted at a time: the networks use all cores already, and only one image is in memory,
    however many requests wait. Between the images of a batch, other requests get their turn.
    """

    def __init__(
        self,
        explain: Callable[[np.ndarray, str], Explanation],
        limits: Limits,
        overlays: OverlayFunction | None = None,
        no_attention_reason: str = "",
        about: str = "",
    ) -> None:
        """
        Args:
            explain: takes pixels, uint8 (height, width, 3), RGB, and the hash of their file.
            overlays: crops, uint8 (N, h, w, 3) → the crops overlaid with attention maps, by stage and target; None: no maps.
            no_attention_reason: why there are no maps.
            about: which run predicts, how well, and what for.
        """
        self.explain, self.limits = explain, limits
        self._overlays, self.no_attention_reason = overlays, no_attention_reason
        self.about = about
        self._lock = Lock()

    @classmethod
    def open(cls, folder: Path, machine: Machine, limits: Limits, abstain: float | None = None) -> Predictor:
        """Load a run's or an export's folder; `abstain` as for `infer`."""
        fitted = open_fitted(folder, machine)
        explainer = Explainer(load_cascade(fitted, machine, images=1))
        overlays, reason = None, ""
        if not isinstance(fitted, Run):
            reason = "Attention maps need torch networks, and an export holds none: serve the run itself."
        elif not _has_grad_cam():
            reason = f"Attention maps need grad-cam: {install('report')}."
        else:
            overlays = partial(attention_overlays, fitted, machine=machine)
        return cls(partial(explainer, abstain=abstain), limits, overlays, reason, _about(folder, explainer, abstain))

    @property
    def has_attention(self) -> bool:
        """Whether attention maps can be computed."""
        return self._overlays is not None

    def __call__(self, path: Path, name: str) -> PredictedImage:
        """Predict and explain a file; `name`: the client's name for it. Raises RefusedError (web/limits.py)."""
        with self._lock:
            image = read_image(path, self.limits)
            return PredictedImage(name, image, self.explain(image, content_hash(path)))

    def attention_overlays(self, predicted: PredictedImage) -> Mapping[str, np.ndarray]:
        """The crops (N, h, w, 3) of the first faces, overlaid with attention maps, by stage and target."""
        if self._overlays is None:
            return {}
        crops = np.stack([face.crop for face in predicted.explanation.faces[:MAX_ATTENTION_FACES]])
        with self._lock:
            return self._overlays(crops)


def _about(folder: Path, explainer: Explainer, abstain: float | None) -> str:
    """Which run predicts, its nested score, what it answers, its limits."""
    score = explainer.record.nested_choice["macro-F1"]
    name = "The released cascade" if is_released(folder) else f"Run “{folder.resolve().name}”"
    parts = [
        f"{name}: nested macro-F1 {score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f}),"
        f" of {explainer.record.people:,} people that the networks had not seen; 1 is perfect.",
        *setting_text(explainer.record.reliability, abstain),
        NOT_FOR_DECISIONS,
    ]
    return " ".join([*parts, *([] if explainer.cascade.detects else [NO_DETECTOR])])


def _has_grad_cam() -> bool:
    from importlib.util import find_spec

    return find_spec("pytorch_grad_cam") is not None
