"""Images without labels: a folder of them, or one."""

from __future__ import annotations

from pathlib import Path

from facecade.faces.layouts.given import Given, GivenRow
from facecade.faces.listing import Listing, passed_over_text


def one_image(file: Path) -> Given:
    """One image."""
    return Given(file.parent, "image", [GivenRow(file.name, file.name)])


def images(folder: Path, listing: Listing) -> Given:
    """All images of a folder, to predict."""
    notes = [passed_over_text(listing.passed_over)] if listing.passed_over else []
    rows = [GivenRow(path, path) for path in listing.images]
    return Given(folder, "images", rows, notes=notes, passed_over=listing.passed_over)
