"""A page opens without network, and says what it was given as it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup

from facecade.pages.charts import INK, chart
from facecade.pages.page import Section, figure, gallery, matrix, picture, table, text, tiles, write_page


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    drawing = chart(lambda axes: axes.plot([0, 1], [1, 0], label="a & b"))
    parts = [
        text("<b>not bold</b>"),
        tiles([("macro-F1", "0.616", "of 1 600 people")]),
        table(["class", "F1"], [["<30", "0.5"], [">=60", "0.4"]], kept=1),
        matrix(np.array([[3, 1], [0, 0]]), ["wear", "normal"], normalised=True),
        figure(drawing, "falls"),
        gallery([([picture(np.zeros((4, 4, 3), np.uint8), "black")], ["000 <1>", "said 2"])]),
    ]
    write_page(tmp_path / "page.html", "T & T", "of a test", [Section("All of it", parts), Section("Empty", [])], "end")
    page = (tmp_path / "page.html").read_text()
    for wanted in (
        "T &amp; T",
        "&lt;b&gt;not bold",
        "&lt;30",
        "000 &lt;1&gt;<br>said 2",
        'href="#all-of-it"',
        "1 (25.0 %)",
    ):
        assert wanted in page
    assert "Empty" not in page and "<script" not in page and INK not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == page.count("</svg>") == 1


def test_the_same_chart_is_the_same_text() -> None:
    first, second = (chart(lambda axes: axes.plot([0, 1], [1, 0])) for _ in range(2))
    assert first == second and isinstance(first, Markup) and "currentColor" in first
