"""SVG charts for a page. Lines and text take the page's text color, so a chart is readable in light mode, in dark mode and in print."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from cycler import cycler
from markupsafe import Markup

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

TEXT_PLACEHOLDER = "#010203"
"""Color that is replaced by the page's text color (`currentColor`), which matplotlib cannot name."""

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccaa33", "#66bbdd", "#aa3377", "#888888"]
"""Colors of the series, safe for color-blind readers in light and dark mode (Paul Tol's bright scheme, slightly darker)."""

STYLE: Any = {
    "svg.fonttype": "none",
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


def chart(draw: Callable[[Axes], None], width: float = 4.6, height: float = 3.2) -> Markup:
    """Call a function that draws on axes, and return the SVG; width and height in inches."""
    return charts([draw], width, height)


def charts(draw_functions: list[Callable[[Axes], None]], width: float, height: float) -> Markup:
    """Several charts side by side, with a shared vertical axis; width and height of them all in inches."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "facecade"}):
        figure, axes = pyplot.subplots(
            1, len(draw_functions), figsize=(width, height), sharey=True, squeeze=False, layout="constrained"
        )
        for axis, draw in zip(axes[0], draw_functions, strict=True):
            draw(axis)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(["Date", "Creator", "Format", "Type"])
        )
        pyplot.close(figure)
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :].replace(TEXT_PLACEHOLDER, "currentColor"))  # matplotlib's output is markup
