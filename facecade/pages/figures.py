"""Figures beside the report, as PNG: for slides, papers and trackers. The learning curves are also on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from facecade.base.artifact import write_atomic
from facecade.faces.labels import BAND_EDGES, GENDERS, N_CLASSES, class_name
from facecade.html.charts import COLOURS
from facecade.report.metrics import confusion
from facecade.report.nested import NestedPredictions
from facecade.training.tracking import VALIDATION

Histories = Mapping[tuple[str, int], Sequence[Mapping[str, float]]]
"""Epochs of each stage and fold, from `training.tracking.read_history`."""

DPI = 160


def write_figures(
    output: Path, nested: NestedPredictions, histories: Histories, years: np.ndarray | None
) -> list[Path]:
    """Write confusion_matrix.png (images), confusion_matrix_normalized.png (% of each row), results.png (learning curves) and,
    where stages predict years, ages.png (predicted and recorded). A figure of an earlier report that is not drawn is removed.

    Args:
        years: float (N, 2), by the male and the female regressor, out of fold.

    Returns:
        The files.
    """
    figures = {
        "confusion_matrix.png": _confusion(nested, normalized=False),
        "confusion_matrix_normalized.png": _confusion(nested, normalized=True),
        "results.png": _curves(histories),
        "ages.png": None if years is None or not nested.combiner.cuts else _ages(nested, years),
    }
    files = []
    with matplotlib.rc_context({"font.size": 9.0, "axes.axisbelow": True, "figure.facecolor": "white"}):
        for name, figure in figures.items():
            path = output / name
            if figure is None:
                path.unlink(missing_ok=True)
            else:
                write_atomic(path, lambda temporary, figure=figure: figure.savefig(temporary, dpi=DPI))  # type: ignore[misc]
                files.append(path)
    return files


def loss_curves(histories: Histories, stage: str) -> Callable[[Axes], None]:
    """Draws the training loss of each fold, and dashed the loss on the people whom it held out."""

    def draw(axes: Axes) -> None:
        for fold, epochs in _of(histories, stage):
            colour = COLOURS[fold % len(COLOURS)]
            _line(axes, epochs, "loss", color=colour, label=f"fold {fold}")
            _line(axes, epochs, f"{VALIDATION}loss", color=colour, linestyle="--")
        axes.set(title=stage, xlabel="epoch", ylabel="loss")

    return draw


def score_curves(histories: Histories, stage: str) -> Callable[[Axes], None]:
    """Draws the last score of each fold on held-out people, the one that training shows."""

    def draw(axes: Axes) -> None:
        name = score_name(histories, stage)
        for fold, epochs in _of(histories, stage):
            _line(axes, epochs, name, color=COLOURS[fold % len(COLOURS)], linestyle="--", label=f"fold {fold}")
        words = name.removeprefix(VALIDATION).replace("_", " ").replace("mae", "MAE, years")
        axes.set(title=stage, xlabel="epoch", ylabel=f"held-out {words}")

    return draw


def score_name(histories: Histories, stage: str) -> str:
    """The last held-out score that a stage's epochs have; empty where they have none."""
    names = [name for _, epochs in _of(histories, stage) for line in epochs for name in line]
    scores = [name for name in names if name.startswith(VALIDATION) and name != f"{VALIDATION}loss"]
    return scores[-1] if scores else ""


def _of(histories: Histories, stage: str) -> list[tuple[int, Sequence[Mapping[str, float]]]]:
    return [(fold, epochs) for (name, fold), epochs in histories.items() if name == stage]


def _line(axes: Axes, epochs: Sequence[Mapping[str, float]], name: str, **style: str) -> None:
    points = [(line["epoch"], line[name]) for line in epochs if name in line]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", markersize=2.5, linewidth=1.2, **style)  # type: ignore[arg-type]
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curves(histories: Histories) -> Figure:
    """Loss and held-out score of each stage, a column a stage."""
    stages = list(dict.fromkeys(stage for stage, _ in histories))
    figure = Figure(figsize=(max(3.0 * len(stages), 4), 5.2), layout="constrained")
    axes = figure.subplots(2, len(stages), squeeze=False)
    for column, stage in enumerate(stages):
        loss_curves(histories, stage)(axes[0, column])
        if score_name(histories, stage):
            score_curves(histories, stage)(axes[1, column])
        else:
            axes[1, column].axis("off")
        for axis in axes[:, column]:
            axis.grid(alpha=0.2)
    axes[0, 0].legend(fontsize=7)
    figure.suptitle("Learning curves. Solid: training; dashed: held-out people", fontsize=10)
    return figure


def _confusion(nested: NestedPredictions, normalized: bool) -> Figure:
    counts = confusion(nested.label, nested.prediction)
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    names = [f"{label} {class_name(label)}" for label in range(N_CLASSES)]
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = f"{100 * shares[row, column]:.0f}" if normalized else str(counts[row, column])
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(N_CLASSES), names, rotation=90, fontsize=7)
    axes.set_yticks(range(N_CLASSES), names, fontsize=7)
    what = "% of each row" if normalized else "number of images"
    axes.set(xlabel="predicted class", ylabel="true class", title=f"Confusion matrix, {what} (nested predictions)")
    return figure


def _ages(nested: NestedPredictions, years: np.ndarray) -> Figure:
    """A point for each person: the recorded age, and the mean prediction of the regressor of the recorded gender."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    for column, (name, axes) in enumerate(zip(GENDERS, figure.subplots(1, 2, sharey=True), strict=True)):
        rows = (nested.table["gender"] == name).to_numpy()
        means = nested.table[rows].assign(predicted=years[rows, column]).groupby("person")[["age", "predicted"]].mean()
        axes.plot([15, 85], [15, 85], color="#888888", linewidth=0.8)
        axes.scatter(means["age"], means["predicted"], s=12, alpha=0.8, linewidths=0, color=COLOURS[column])
        for edge in BAND_EDGES:
            axes.axvline(edge, color="#888888", linewidth=0.8, linestyle=":")
        for cut in nested.combiner.cuts.get(name, ()):
            axes.axhline(cut, color=COLOURS[5], linewidth=1)
        error = np.abs(means["predicted"] - means["age"]).mean()
        axes.set(title=f"{name}: {len(means)} people, MAE {error:.1f} years", xlabel="recorded age, years")
        axes.grid(alpha=0.2)
    figure.axes[0].set_ylabel("predicted, years (out of fold)")
    return figure
