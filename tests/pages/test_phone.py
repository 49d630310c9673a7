"""Pages on a phone, in a real browser: nothing is wider than the screen, charts stack and stay readable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import succeed

WIDTH = 390
"""CSS pixels of a phone's screen."""

MIN_TYPE = 9
"""CSS pixels of the smallest type in a chart."""

SMALLEST_TYPE = """() => Math.min(...[...document.querySelectorAll('svg text')].map(text => {
    const svg = text.closest('svg')
    return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width
}))"""


@pytest.fixture(scope="module")
def pages(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with eda.html, report.html and audit.html of the tiny run."""
    output = tmp_path_factory.mktemp("pages")
    succeed("eda", drawn / "train", "--recipe", "recipes/demo.toml", "--output", output)
    for command in ("report", "audit"):
        succeed(command, "--artifacts", fitted, "--output", output)
    return output


@pytest.fixture
def phone(browser: Any) -> Iterator[Any]:
    tab = browser.new_page(viewport={"width": WIDTH, "height": 844})
    yield tab
    tab.close()


@pytest.mark.parametrize("name", ["eda", "report", "audit"])
def test_no_page_is_wider_than_a_phone(phone: Any, pages: Path, name: str) -> None:
    phone.goto((pages / f"{name}.html").as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = """() => [...document.querySelectorAll('body *')].filter(
        each => !each.closest('.scroll') && each.getBoundingClientRect().right > innerWidth).map(each => each.outerHTML.slice(0, 80))"""
    assert phone.evaluate(wide) == []


@pytest.mark.parametrize("name", ["eda", "report"])
def test_type_in_charts_is_readable_on_a_phone(phone: Any, pages: Path, name: str) -> None:
    phone.goto((pages / f"{name}.html").as_uri())
    assert phone.evaluate(SMALLEST_TYPE) >= MIN_TYPE


def test_panels_stack_on_a_phone_and_stand_side_by_side_on_a_desk(phone: Any, pages: Path) -> None:
    phone.goto((pages / "report.html").as_uri())
    columns = """() => [...document.querySelectorAll('.panels')].map(panels =>
        new Set([...panels.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().left)).size)"""
    assert phone.evaluate(columns) == [1, 1, 1]
    phone.set_viewport_size({"width": 1280, "height": 900})
    assert phone.evaluate(columns) == [2, 2, 3]


def test_a_table_that_scrolls_keeps_its_first_column_and_has_a_shadow(phone: Any, pages: Path) -> None:
    phone.goto((pages / "report.html").as_uri())
    wide = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth)"
    assert phone.evaluate(f"{wide}.length") > 3
    first_cell = "cell => cell.querySelector('tbody tr > :first-child').getBoundingClientRect().left"
    before = phone.evaluate(f"{wide}.map({first_cell})")
    phone.evaluate(f"{wide}.forEach(each => each.scrollLeft = 90)")
    assert phone.evaluate(f"{wide}.map({first_cell})") == pytest.approx(before, abs=1)
    assert phone.evaluate(f"{wide}.every(each => getComputedStyle(each).backgroundImage.includes('gradient'))")
