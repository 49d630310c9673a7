"""A page needs no network, and escapes the text it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecade.html.charts import TEXT_PLACEHOLDER, chart
from facecade.html.elements import confusion_matrix, figure, gallery, picture, table, text, tiles
from facecade.pages.page import Section, write_page


def test_a_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    drawing = chart(lambda axes: axes.plot([0, 1], [1, 0], label="a & b"))
    parts = [
        text("<b>not bold</b>"),
        tiles([("macro-F1", "0.616", "of 1 600 people")]),
        table(["class", "F1"], [["<30", "0.5"], [">=60", "0.4"]], highlighted_row=1),
        confusion_matrix(np.array([[3, 1], [0, 0]]), ["wear", "normal"], normalized=True),
        figure(drawing, "falls"),
        gallery([([picture(np.zeros((4, 4, 3), np.uint8), "black")], ["000 <1>", "predicted 2"])]),
    ]
    write_page(tmp_path / "page.html", "T & T", "of a test", [Section("All of it", parts), Section("Empty", [])], "end")
    page = (tmp_path / "page.html").read_text()
    for expected in (
        "T &amp; T",
        "&lt;b&gt;not bold",
        "&lt;30",
        "000 &lt;1&gt;<br>predicted 2",
        'href="#all-of-it"',
        "1 (25.0 %)",
    ):
        assert expected in page
    assert "Empty" not in page and "<script" not in page and TEXT_PLACEHOLDER not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == page.count("</svg>") == 1
