"""The picture of the README, in a real browser."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

FLOW = Path(__file__).resolve().parents[2] / "docs/flow.svg"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_texts_overlap_and_the_background_follows_the_color_scheme(browser: Any, scheme: str) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 500}, color_scheme=scheme)
    tab.goto(FLOW.as_uri())
    boxes = tab.evaluate(
        "[...document.querySelectorAll('text')].map(each => each.getBBox()).map(b => [b.x, b.y, b.x + b.width, b.y + b.height])"
    )
    color = tab.evaluate("getComputedStyle(document.querySelector('.card')).fill")
    tab.close()
    assert len(boxes) > 15
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] + 2 or other[3] <= one[1] + 2
    assert (color == "rgb(255, 255, 255)") == (scheme == "light")
