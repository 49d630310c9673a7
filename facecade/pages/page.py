"""One self-contained HTML file: sections of text, tables, charts and images, without script or network."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from PIL import Image

from facecade.base.artifact import write_text

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, each part as one of the functions below makes it."""

    title: str
    parts: Sequence[Markup]

    @property
    def anchor(self) -> str:
        """What a link to the section is called."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[Section], footer: str) -> None:
    """Write the file; sections that say nothing are left out."""
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("page.html")
    shown = [section for section in sections if section.parts]
    write_text(path, template.render(title=title, subtitle=subtitle, sections=shown, footer=footer))


def text(words: str, faint: bool = False) -> Markup:
    """A paragraph."""
    return Markup('<p class="faint">{}</p>' if faint else "<p>{}</p>").format(words)


def heading(words: str) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(words)


def tiles(values: Sequence[tuple[str, str, str]]) -> Markup:
    """The few numbers that matter most: of each its name, the number, and what is said below it."""
    tile = Markup('<div class="tile"><span>{}</span><b>{}</b><span>{}</span></div>')
    return Markup('<div class="tiles">{}</div>').format(Markup("").join(tile.format(*each) for each in values))


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], kept: int | None = None, words: int | None = None
) -> Markup:
    """A table; the first column is left-aligned.

    Args:
        kept: a row that is set off from the others.
        words: a column that holds sentences.
    """

    def line(number: int, row: Sequence[str]) -> Markup:
        cells = (
            Markup('<td class="words">{}</td>' if place == words else "<td>{}</td>").format(cell)
            for place, cell in enumerate(row)
        )
        return Markup('<tr class="kept">{}</tr>' if number == kept else "<tr>{}</tr>").format(Markup("").join(cells))

    headed = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in head)
    lines = Markup("").join(line(number, row) for number, row in enumerate(rows))
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        headed, lines
    )


def matrix(counts: np.ndarray, names: Sequence[str], normalised: bool) -> Markup:
    """Confusion counts (C, C) as coloured cells, rows true and columns answered; `normalised`: each row's shares in %."""
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)

    def cell(row: int, column: int) -> Markup:
        part = share[row, column]
        shown = f"{100 * part:.0f}" if normalised else str(counts[row, column])
        return Markup('<td{} style="--share:{:.3f}" title="{} answered {}: {} ({:.1f} %)">{}</td>').format(
            Markup(' class="much"') if part > 0.55 else "",
            part,
            names[row],
            names[column],
            counts[row, column],
            100 * part,
            "" if counts[row, column] == 0 else shown,
        )

    every = range(len(names))
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in names)
    rows = Markup("").join(
        Markup("<tr><th>{}</th>{}</tr>").format(names[row], Markup("").join(cell(row, column) for column in every))
        for row in every
    )
    return Markup(
        '<div class="scroll"><table class="cells"><thead><tr><th>true ↓ said →</th>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, rows)


def figure(drawing: Markup, caption: str) -> Markup:
    """A chart of pages/charts.py with what is to be seen in it."""
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(drawing, caption)


def row(parts: Sequence[Markup]) -> Markup:
    """Parts beside each other, where there is room."""
    return Markup('<div class="row">{}</div>').format(
        Markup("").join(Markup("<div>{}</div>").format(part) for part in parts)
    )


def picture(pixels: np.ndarray, what: str, longest: int | None = None) -> Markup:
    """An image, uint8 (h, w, 3), RGB, inside the page.

    Args:
        what: is read where it cannot be seen.
        longest: pixels to which its longer side is made smaller.
    """
    if longest:
        image = Image.fromarray(pixels)
        image.thumbnail((longest, longest))
        pixels = np.asarray(image)
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    data = base64.b64encode(coded.tobytes()).decode()
    return Markup('<img loading="lazy" alt="{}" src="data:image/jpeg;base64,{}">').format(what, data)


def gallery(shown: Sequence[tuple[Sequence[Markup], Sequence[str]]]) -> Markup:
    """Pictures with lines below them: of each figure its pictures, side by side, and its lines."""
    one = Markup('<figure><div class="pictures">{}</div><figcaption>{}</figcaption></figure>')
    return Markup('<div class="gallery">{}</div>').format(
        Markup("").join(
            one.format(Markup("").join(pictures), Markup("<br>").join(escape(line) for line in lines))
            for pictures, lines in shown
        )
    )
