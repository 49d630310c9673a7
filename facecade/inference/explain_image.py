"""Explains one image file, with attention maps as pictures on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.artifact import write_atomic
from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.base.machine import Machine
from facecade.faces.decode import decode
from facecade.inference.explain import Explainer
from facecade.inference.loading import load_cascade, open_fitted
from facecade.runs.fits import make_fits
from facecade.runs.run import Run


def explain(
    folder: Path, image: Path, machine: Machine, pictures: Path | None = None, abstain: float | None = None
) -> dict[str, Any]:
    """Explain the prediction for each face of an image (inference/explain.py).

    Args:
        folder: of a run, or of an export.
        pictures: a folder for each face's crop and the attention maps of every stage over it; needs a run.
        abstain: as for `infer`.

    Returns:
        The explanation as JSON, with the files written under `pictures`.

    Raises:
        DecodeError: `image` cannot be read.
        FacecadeError: `pictures` with an export, which holds no torch networks.
    """
    pixels, content = decode(image), content_hash(image)  # before the networks are loaded: the image may be unreadable
    fitted = open_fitted(folder, machine)
    if pictures and not isinstance(fitted, Run):
        raise FacecadeError(
            "attention maps need torch networks, and an export holds none",
            "give the run that was exported: --artifacts RUN",
        )
    if isinstance(fitted, Run):
        machine = replace(machine, engine="torch")
    explanation = Explainer(load_cascade(fitted, machine, images=1))(pixels, content, abstain)
    result = explanation.json()
    if pictures and isinstance(fitted, Run):
        crops = np.stack([face.crop for face in explanation.faces])
        result["pictures"] = _write_pictures(pictures, crops, attention_overlays(fitted, crops, machine))
    return result


def attention_overlays(run: Run, crops: np.ndarray, machine: Machine) -> dict[str, np.ndarray]:
    """Crops, uint8 (N, h, w, 3), RGB, overlaid with the attention map of each stage and target; by stage and target."""
    from facecade.inference.attention import attention_maps, overlay
    from facecade.training.device import torch_device

    fits = make_fits(run, run.recipe.inference_fits(run.recipe.ensemble))
    maps = attention_maps(fits, crops, torch_device(machine.device))
    return {
        f"{stage}-{target}" if sum(stage == other for other, _ in maps) > 1 else stage: np.stack(
            [overlay(*each) for each in zip(crops, values, strict=True)]
        )
        for (stage, target), values in maps.items()
    }


def _write_pictures(folder: Path, crops: np.ndarray, overlays: Mapping[str, np.ndarray]) -> list[str]:
    """Write each face's crop and overlays as PNG; returns their paths."""
    from PIL import Image

    pictures = {f"face{face}.png": crop for face, crop in enumerate(crops, 1)}
    for name, overlaid in overlays.items():
        pictures |= {f"face{face}-{name}.png": pixels for face, pixels in enumerate(overlaid, 1)}
    for name, pixels in pictures.items():
        write_atomic(folder / name, Image.fromarray(pixels).save)
    return [str(folder / name) for name in pictures]
