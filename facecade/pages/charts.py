"""Charts as SVG inside a page, their lines and words in the page's own colours, so that they are read by day, by night and on paper."""

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

INK = "#010203"
"""Stands for the page's colour of text, which the SVG cannot know."""

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccaa33", "#66bbdd", "#aa3377", "#888888"]
"""Series, told apart by colour-blind readers on light paper and on dark (Paul Tol's bright scheme, a little deeper)."""

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
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"], INK
    ),
}


def chart(draw: Callable[[Axes], None], width: float = 4.6, height: float = 3.2) -> Markup:
    """What a function draws on axes, as SVG; width and height in inches."""
    return charts([draw], width, height)


def charts(draws: list[Callable[[Axes], None]], width: float, height: float) -> Markup:
    """Several charts side by side, on one vertical axis."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "facecade"}):
        figure, axes = pyplot.subplots(
            1, len(draws), figsize=(width, height), sharey=True, squeeze=False, layout="constrained"
        )
        for axis, draw in zip(axes[0], draws, strict=True):
            draw(axis)
        written = io.StringIO()
        figure.savefig(
            written, format="svg", transparent=True, metadata=dict.fromkeys(["Date", "Creator", "Format", "Type"])
        )
        pyplot.close(figure)
    svg = written.getvalue()
    return Markup(svg[svg.index("<svg") :].replace(INK, "currentColor"))  # what matplotlib wrote is markup already
