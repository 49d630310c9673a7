"""Face boxes that come with the data: where they do, nothing is detected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from facecade.base.artifact import digest
from facecade.base.errors import excerpt
from facecade.faces.crop import Box
from facecade.faces.decode import DecodeError, opened, upright_size

SIDES = ["left", "top", "right", "bottom"]
"""Columns of a manifest and of the sample table: pixels of the image as EXIF turns it."""

NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,20})?")
"""A side as written."""


@dataclass(frozen=True)
class BoxedImage:
    """An image file whose face is known; `box` in pixels of the upright image."""

    path: Path
    box: Box


ImageFile = Path | BoxedImage


def box_problem(texts: Sequence[str]) -> str:
    """What is wrong with the four sides of a box as text; empty if nothing is."""
    sides = dict(zip(SIDES, texts, strict=True))
    if wrong := [name for name, text in sides.items() if not NUMBER.fullmatch(text)]:
        return f"{wrong[0]} is '{excerpt(sides[wrong[0]])}', expected pixels; a face box has all four sides or none"
    left, top, right, bottom = map(float, texts)
    if left >= right or top >= bottom:
        return "the face box has no area: left is below right, top below bottom"
    return ""


def box_columns(table: pd.DataFrame) -> list[str]:
    """The columns of the boxes, if a sample table has any box; none otherwise."""
    return SIDES if set(SIDES) <= set(table) and table[SIDES].notna().any(axis=None) else []


def images_of(root: Path, table: pd.DataFrame) -> list[ImageFile]:
    """The image of each row of a sample table, with its box where one is given."""
    paths = [root / path for path in table["path"]]
    if not box_columns(table):
        return [*paths]
    return [
        path if left != left else BoxedImage(path, Box(left, top, right, bottom, 1.0))
        for path, (left, top, right, bottom) in zip(paths, table[SIDES].to_numpy(float).tolist(), strict=True)
    ]


def path_of(image: ImageFile) -> Path:
    """The file of an image."""
    return image.path if isinstance(image, BoxedImage) else image


def crop_key(content: str, given: Box | None) -> str:
    """What a face crop is stored under: the hash of its file, and the box if one is given."""
    return content if given is None else digest([content, *map(float, given.values)])


def box_in_pixels(image: BoxedImage, width: int) -> Box:
    """A given box in pixels of the decoded image, which is smaller than the file's if that is very large.

    Args:
        width: of the decoded image.

    Raises:
        DecodeError: the box is outside of the image.
    """
    with opened(image.path) as header:
        full_width, full_height = upright_size(header)
    require_overlap(image, full_width, full_height)
    scale, box = width / full_width, image.box
    left, top, right, bottom = (side * scale for side in (box.left, box.top, box.right, box.bottom))
    return replace(box, left=left, top=top, right=right, bottom=bottom)


def require_overlap(image: BoxedImage, width: int, height: int) -> None:
    """Raises DecodeError for a box that is outside of its upright image, or so large that its crop would need too much memory."""
    box = image.box
    inside = box.right > 0 and box.bottom > 0 and box.left < width and box.top < height
    if not inside or max(box.right - box.left, box.bottom - box.top) > 2 * max(width, height):
        raise DecodeError(
            image.path,
            f"the face box {box.left:g},{box.top:g},{box.right:g},{box.bottom:g} does not fit the image, {width}×{height} pixels",
            "give left,top,right,bottom in pixels of the image as it is shown",
        )
