"""Figures for notebooks, by matplotlib (the extra `report`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.base.program import install
from facecade.faces.decode import DecodeError, decode
from facecade.faces.words import in_words, prediction_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from facecade.inference.explain import Explanation
    from facecade.predictions import Prediction


def plot_predictions(predictions: Sequence[Prediction], columns: int) -> Figure:
    """Images with their face's box and prediction, in rows of `columns`."""
    pyplot, patches = _matplotlib()
    rows = max(1, math.ceil(len(predictions) / columns))
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(2.4 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, prediction in zip(axes.flat, predictions, strict=False):
        sure = "" if prediction.label is None else f"\nconfidence {prediction.confidence:.2f}"
        axis.set_title(f"{prediction.words}{sure}{', unsure' if prediction.unsure else ''}", fontsize=8, wrap=True)
        pixels = _pixels(prediction.image)
        if pixels is None:
            axis.text(0.5, 0.5, " ".join(prediction.flags), ha="center", wrap=True, fontsize=8)
            continue
        axis.imshow(pixels)
        if box := prediction.box:
            size = box.right - box.left, box.bottom - box.top
            axis.add_patch(patches.Rectangle((box.left, box.top), *size, fill=False, edgecolor="#ee6677", linewidth=2))
    return figure


def plot_explanation(explanation: Explanation) -> Figure:
    """Each face's crop, the probabilities of mask, gender and band, and the largest contributions to the margin."""
    pyplot, _ = _matplotlib()
    count = len(explanation.faces)
    figure, axes = pyplot.subplots(count, 3, figsize=(9, 3 * count), squeeze=False, layout="constrained")
    for (crop, bars, parts), face in zip(axes, explanation.faces, strict=True):
        crop.imshow(face.crop)
        crop.axis("off")
        crop.set_title(prediction_in_words(face.prediction, face.age), fontsize=9, wrap=True)
        probability = {**face.mask, **face.gender, **face.band}
        _bars(bars, [in_words(name) for name in probability], list(probability.values()), "probability")
        if face.contributions:
            largest = list(face.contributions.parts.items())[:8]
            _bars(parts, [name for name, _ in largest], [value for _, value in largest], "nats towards the prediction")
        else:
            parts.axis("off")
    return figure


def plot_leaderboard(table: pd.DataFrame) -> Figure:
    """Nested macro-F1 of each combining method with its 95 % interval; the selected one is dark."""
    pyplot, _ = _matplotlib()
    figure, axis = pyplot.subplots(figsize=(7, 0.4 * len(table) + 1), layout="constrained")
    score = table["macro-F1"].to_numpy()
    error = np.stack([score - table["macro-F1 low"], table["macro-F1 high"] - score])
    colors = ["#4477aa" if kept else "#bbccdd" for kept in table["kept"]]
    position = np.arange(len(table))[::-1]
    axis.barh(position, score, xerr=error, color=colors, ecolor="#555555")
    axis.set_yticks(position, table["method"])
    axis.set_xlabel("nested macro-F1")
    return figure


def _bars(axis: Any, names: Sequence[str], values: Sequence[float], label: str) -> None:
    position = np.arange(len(names))[::-1]
    axis.barh(position, values, color=["#4477aa" if value >= 0 else "#ee6677" for value in values])
    axis.set_yticks(position, names, fontsize=7)
    axis.set_xlabel(label, fontsize=8)


def _pixels(image: Path | np.ndarray) -> np.ndarray | None:
    """An image's pixels; None for a file that cannot be read."""
    try:
        return decode(image) if isinstance(image, Path) else image
    except DecodeError:
        return None


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib import patches, pyplot
    except ImportError:
        raise FacecadeError("figures need matplotlib", install("report")) from None
    return pyplot, patches
