"""Charts are deterministic SVG markup."""

from __future__ import annotations

from markupsafe import Markup

from facecade.html.charts import chart


def test_the_same_chart_gives_the_same_svg() -> None:
    first, second = (chart(lambda axes: axes.plot([0, 1], [1, 0])) for _ in range(2))
    assert first == second and isinstance(first, Markup) and "currentColor" in first
