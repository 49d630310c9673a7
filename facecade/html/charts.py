"""SVG charts for a page. Lines and text take the page's text color, so a chart is readable in light mode, in dark mode and in print."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from markupsafe import Markup

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEXT_PLACEHOLDER = "#010203"
"""Color that is replaced by the page's text color (`currentColor`), which matplotlib cannot name."""

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccaa33", "#66bbdd", "#aa3377", "#888888"]
"""Colors of the series, safe for color-blind readers in light and dark mode (Paul Tol's bright scheme, slightly darker)."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "facecade",
    "font.size": 9.0,
    "savefig.dpi": 200,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.titlesize": 10.0,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    **dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"],
        TEXT_PLACEHOLDER,
    ),
}
"""matplotlib's rcParams."""


def chart(draw: Callable[[Axes], None], width: float = 4.4, height: float = 3.2) -> Markup:
    """Call a function that draws on axes, and return the SVG; width and height in inches. A phone shows up to 4.4 inches with readable type."""
    return _svg(_drawn(draw, width, height)[0])


def charts(draw_functions: list[Callable[[Axes], None]], width: float, height: float) -> Markup:
    """Charts with the same vertical axis, side by side or, on a narrow page, below each other; width and height of each in inches."""
    drawn = [_drawn(draw, width, height) for draw in draw_functions]
    limits = np.array([axes.get_ylim() for _, axes in drawn])
    for _, axes in drawn:
        axes.set_ylim(limits.min(), limits.max())
    return Markup('<div class="panels">{}</div>').format(Markup("").join(_svg(figure) for figure, _ in drawn))


def _drawn(draw: Callable[[Axes], None], width: float, height: float) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        draw(axes)
    return figure, axes


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(["Date", "Creator", "Format", "Type"])
        )
    pyplot.close(figure)
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :].replace(TEXT_PLACEHOLDER, "currentColor"))  # matplotlib's output is markup
