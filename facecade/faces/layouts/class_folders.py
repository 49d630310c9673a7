"""A folder for each class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from facecade.base.errors import excerpt
from facecade.faces.folder_names import labels_of_name
from facecade.faces.label_text import LABELS
from facecade.faces.layouts.given import Given, GivenRow
from facecade.faces.layouts.plain import images
from facecade.faces.listing import Listing, composed
from facecade.faces.problems import Problem
from facecade.faces.reading import Labels, Reading

MAX_NAMES = 20
"""Folders whose labels are noted one by one."""


def folder_labels(listing: Listing, reading: Reading) -> dict[str, Labels | None]:
    """The labels of each folder that holds images directly or deeper; None for those that are not understood. The folder itself,
    if it holds images, has an empty name."""
    names = dict.fromkeys(_class_of(path) for path in listing.images)
    given = {composed(name): labels for name, labels in (reading.folders or {}).items()}
    return {name: given[composed(name)] if composed(name) in given else labels_of_name(name, reading) for name in names}


def class_folders(folder: Path, listing: Listing, labels: dict[str, Labels | None], reading: Reading) -> Given:
    """The images of class folders, at any depth in them."""
    count = Counter(map(_class_of, listing.images))
    problems = [
        Problem(
            f"{name or '.'}/",
            f"{count[name]} images in a folder whose name says no class; rename it, or name it in --layout FILE",
            "a folder whose name says no class; rename it, or name it in --layout FILE",
        )
        for name, known in labels.items()
        if known is None
    ]
    unknown = [name for name in reading.folders or {} if composed(name) not in map(composed, labels)]
    problems += [Problem(f"{name}/", "a folder of --layout that holds no image") for name in unknown]
    rows = [
        GivenRow(path, path, labels=labels[name] or {})
        for path in listing.images
        if labels[name := _class_of(path)] is not None
    ]
    notes = [f"folder '{excerpt(name)}': {_text(known)}" for name, known in labels.items() if known is not None]
    if len(notes) > MAX_NAMES:
        notes = [*notes[:MAX_NAMES], f"and {len(notes) - MAX_NAMES} more folders"]
    plain = images(folder, listing)
    return replace(plain, layout="class folders", rows=rows, problems=problems, label_notes=notes)


def not_understood_note(labels: dict[str, Labels | None]) -> str:
    """Why folders of which some say a class are not read as classes."""
    understood = [name for name, known in labels.items() if known is not None]
    others = [
        f"'{excerpt(name)}'" if name else "the images beside them" for name, known in labels.items() if known is None
    ]
    return (
        f"{len(understood)} folder(s) say a class, as '{excerpt(understood[0])}', and {len(others)} do not"
        f" ({', '.join(others[:5])}{', …' if len(others) > 5 else ''}): no folder is read as a class; --layout FILE says what each means"
    )


def _class_of(path: str) -> str:
    parts = PurePosixPath(path).parts
    return parts[0] if len(parts) > 1 else ""


def _text(labels: Labels) -> str:
    known = [f"{name} {labels[name]}" for name in LABELS if labels.get(name)]
    return ", ".join(known) or "no label"
