"""The contents of a dataset, before anything is trained on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.progress import Bar
from facecade.faces.decode import DecodeError, decoded, opened, upright_size
from facecade.faces.labels import N_CLASSES, class_name
from facecade.faces.table import age_cap, classes, read_source


def check_source(data: Path, workers: int) -> dict[str, Any]:
    """Read every row and decode every file of a dataset.

    Returns:
        layout, counts of images and people, `classes` with a count for each that has labels,
        `notes`, and `problems`: every bad row and file with its reason.
    """
    source = read_source(data)
    table = source.table
    problems = [str(problem) for problem in source.problems]
    paths = [source.root / path for path in table["path"]]
    sizes: dict[tuple[int, int], int] = {}
    with Bar("check", len(paths), "images") as bar, ThreadPoolExecutor(workers) as pool:
        for path, result in zip(table["path"], pool.map(_size_or_reason, paths), strict=True):
            if isinstance(result, str):
                if result != "no such file":  # read_source reports it, with its row
                    problems.append(f"{path}: {result}")
            else:
                sizes[result] = sizes.get(result, 0) + 1
            bar.advance()
    label = classes(table)
    notes = [
        *source.notes,
        *(f"{height}×{width} pixels (height×width): {count}" for (height, width), count in _most_common(sizes)),
    ]
    cap = age_cap(table.groupby("person")["age"].first().to_numpy(float)) if (label >= 0).any() else None
    if cap is not None:
        notes.append(f"ages look censored at {cap:.0f}: everyone of that age or over is recorded as {cap:.0f}")
    return {
        "data": str(data),
        "layout": source.layout,
        "images": len(table),
        "people": int(table.loc[table["person"] != "", "person"].nunique()),
        "classes": [
            {
                "class": number,
                "name": class_name(number),
                "images": int((label == number).sum()),
                "people": int(table["person"][label == number].nunique()),
            }
            for number in range(N_CLASSES)
        ]
        if (label >= 0).any()
        else [],
        "notes": notes,
        "passed_over": source.passed_over,
        "problems": problems,
    }


def _size_or_reason(path: Path) -> tuple[int, int] | str:
    """Height and width of an image, or why it cannot be decoded."""
    try:
        with opened(path) as image:
            width, height = upright_size(image)
        with decoded(path):
            return height, width
    except DecodeError as error:
        return error.reason


def _most_common(sizes: dict[tuple[int, int], int]) -> list[tuple[tuple[int, int], int]]:
    order = np.argsort([-count for count in sizes.values()], kind="stable")[:5]
    items = list(sizes.items())
    return [items[index] for index in order]
