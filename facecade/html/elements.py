"""HTML elements: text, tables, tiles, matrices, figures and images. Each function returns escaped markup."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image


def text(words: str, faint: bool = False) -> Markup:
    """A paragraph."""
    return Markup('<p class="faint">{}</p>' if faint else "<p>{}</p>").format(words)


def heading(words: str) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(words)


def tiles(values: Sequence[tuple[str, str, str]]) -> Markup:
    """The most important numbers as tiles: of each the name, the number, and a note."""
    tile = Markup('<div class="tile"><span>{}</span><b>{}</b><span>{}</span></div>')
    return Markup('<div class="tiles">{}</div>').format(Markup("").join(tile.format(*each) for each in values))


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    highlighted_row: int | None = None,
    text_column: int | None = None,
) -> Markup:
    """A table; the first column is left-aligned.

    Args:
        highlighted_row: index of a row in bold.
        text_column: index of a column that holds sentences: left-aligned, with line breaks.
    """

    def table_row(number: int, row: Sequence[str]) -> Markup:
        cells = (
            Markup('<td class="words">{}</td>' if column == text_column else "<td>{}</td>").format(cell)
            for column, cell in enumerate(row)
        )
        return Markup('<tr class="kept">{}</tr>' if number == highlighted_row else "<tr>{}</tr>").format(
            Markup("").join(cells)
        )

    header = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in head)
    body = Markup("").join(table_row(number, row) for number, row in enumerate(rows))
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        header, body
    )


def confusion_matrix(counts: np.ndarray, names: Sequence[str], normalized: bool) -> Markup:
    """Confusion counts (C, C) as colored cells, rows true and columns predicted; `normalized`: shares of each row in %."""
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)

    def cell(row: int, column: int) -> Markup:
        share = shares[row, column]
        shown = f"{100 * share:.0f}" if normalized else str(counts[row, column])
        return Markup('<td{} style="--share:{:.3f}" title="{} predicted {}: {} ({:.1f} %)">{}</td>').format(
            Markup(' class="much"') if share > 0.55 else "",
            share,
            names[row],
            names[column],
            counts[row, column],
            100 * share,
            "" if counts[row, column] == 0 else shown,
        )

    indices = range(len(names))
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in names)
    rows = Markup("").join(
        Markup("<tr><th>{}</th>{}</tr>").format(names[row], Markup("").join(cell(row, column) for column in indices))
        for row in indices
    )
    return Markup(
        '<div class="scroll"><table class="cells"><caption>{}</caption>'
        "<thead><tr><th>true ↓ predicted →</th>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format("share of each row, %" if normalized else "number of images", head, rows)


def figure(chart: Markup, caption: str) -> Markup:
    """A chart (html/charts.py) with its caption."""
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(chart, caption)


def row(parts: Sequence[Markup]) -> Markup:
    """Parts side by side, where the page is wide enough."""
    return Markup('<div class="row">{}</div>').format(
        Markup("").join(Markup("<div>{}</div>").format(part) for part in parts)
    )


def picture(pixels: np.ndarray, alt: str, max_side: int | None = None) -> Markup:
    """An image, uint8 (h, w, 3), RGB, embedded in the page as JPEG.

    Args:
        alt: text for readers who cannot see the image.
        max_side: pixels of the longer side; a larger image is scaled down.
    """
    if max_side:
        image = Image.fromarray(pixels)
        image.thumbnail((max_side, max_side))
        pixels = np.asarray(image)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    data = base64.b64encode(encoded.tobytes()).decode()
    return Markup('<img loading="lazy" alt="{}" src="data:image/jpeg;base64,{}">').format(alt, data)


def gallery(figures: Sequence[tuple[Sequence[Markup], Sequence[str]]]) -> Markup:
    """A grid of figures: of each its pictures, side by side, and the lines of its caption."""
    figure = Markup('<figure><div class="pictures">{}</div><figcaption>{}</figcaption></figure>')
    return Markup('<div class="gallery">{}</div>').format(
        Markup("").join(
            figure.format(Markup("").join(pictures), Markup("<br>").join(escape(line) for line in lines))
            for pictures, lines in figures
        )
    )
