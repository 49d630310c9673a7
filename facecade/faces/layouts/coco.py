"""Annotations in the form of COCO (https://cocodataset.org/#format-data): a JSON file with images, annotations and categories.

Labels come from an annotation's `attributes` (`mask`, `gender`, `age`, `person`) and from the name of its category; its `bbox` is the box
of the face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from facecade.base.errors import FacecadeError, excerpt
from facecade.base.files import is_file, read_bytes
from facecade.faces.folder_names import labels_of_name
from facecade.faces.label_text import LABELS
from facecade.faces.layouts.given import Given, GivenRow, missing_file
from facecade.faces.problems import Problem
from facecade.faces.reading import Labels, Reading

MAX_JSON_BYTES = 64 * 2**20
"""Maximum size of a file: about three hundred thousand annotations."""

MAX_NAMES = 20
"""Categories whose labels are noted one by one."""

Id = Annotated[int | str, Field(union_mode="left_to_right")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Image(_Part):
    id: Id
    file_name: str


class _Category(_Part):
    id: Id
    name: str


class _Annotation(_Part):
    image_id: Id
    category_id: Id | None = None
    bbox: list[FiniteFloat] | None = None
    attributes: dict[str, Any] | None = None


class _Coco(_Part):
    images: list[_Image]
    annotations: list[_Annotation] = Field(default_factory=list)
    categories: list[_Category] = Field(default_factory=list)


def coco(file: Path, reading: Reading) -> Given:
    """A row for each annotation; a row for each image where there are none.

    Raises:
        FacecadeError: the file is too large, or not of this form.
    """
    data = _parsed(file)
    path_of = {image.id: _path(file.parent, image.file_name) for image in data.images}
    if not data.annotations:
        rows = [GivenRow(path, path, missing=missing_file(path, file.parent, path)) for path in path_of.values()]
        return Given(file.parent, "coco", rows)
    category_labels = {each.id: labels_of_name(each.name, reading) for each in data.categories}
    rows = [
        _row(f"{file.name} annotation {number}", file.parent, annotation, path_of, category_labels)
        for number, annotation in enumerate(data.annotations, 1)
    ]
    notes = [f"category '{excerpt(each.name)}': {_text(category_labels[each.id])}" for each in data.categories]
    if len(notes) > MAX_NAMES:
        notes = [*notes[:MAX_NAMES], f"and {len(notes) - MAX_NAMES} more categories"]
    without = len(path_of.keys() - {annotation.image_id for annotation in data.annotations})
    left_out = [f"{without} images have no annotation, and are left out"] if without else []
    return Given(file.parent, "coco", rows, notes=left_out, label_notes=notes)


def _parsed(file: Path) -> _Coco:
    try:
        return _Coco.model_validate_json(read_bytes(file, MAX_JSON_BYTES))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise FacecadeError(
            f"{file} is not JSON in the form of COCO: {f'{excerpt(where)}: ' if where else ''}{excerpt(first['msg'], 200)}",
            "it has images (id, file_name), annotations (image_id, category_id, bbox, attributes) and categories (id, name)",
        ) from None


def _row(
    where: str,
    root: Path,
    annotation: _Annotation,
    path_of: Mapping[int | str, str],
    category_labels: Mapping[int | str, Labels | None],
) -> GivenRow:
    problems = []
    if annotation.image_id not in path_of:
        problems.append(Problem(where, f"no image has the id {excerpt(annotation.image_id)}", "no image has the id"))
    path = path_of.get(annotation.image_id, "")
    category = category_labels.get(annotation.category_id) if annotation.category_id is not None else None
    attributes = {name.casefold(): _cell(value) for name, value in (annotation.attributes or {}).items()}
    labels = {name: attributes.get(name) or (category or {}).get(name, "") for name in LABELS}
    box: Sequence[str] = ("", "", "", "")
    if annotation.bbox is not None:
        if len(annotation.bbox) == 4:
            left, top, width, height = annotation.bbox
            box = [f"{side:.3f}" for side in (left, top, left + width, top + height)]
        else:
            problems.append(
                Problem(where, f"bbox has {len(annotation.bbox)} numbers, expected left, top, width and height")
            )
    missing = missing_file(where, root, path) if path else None
    return GivenRow(where, path, attributes.get("person", ""), labels, "", box, problems, missing)


def _path(root: Path, name: str) -> str:
    """An image's path: beside the file, or in `images/`."""
    inside = f"images/{name}"
    return inside if name and not is_file(root / name) and is_file(root / inside) else name


def _cell(value: object) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value).strip()


def _text(labels: Labels | None) -> str:
    known = [f"{name} {labels[name]}" for name in LABELS if labels.get(name)] if labels else []
    return ", ".join(known) or "says no label"
