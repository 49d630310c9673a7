"""What the labels of a dataset cover: how many images have each, and which of the 18 classes have none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES, decode
from facecade.faces.table import classes


def coverage_notes(table: pd.DataFrame) -> list[str]:
    """Lines on images without a label, and on classes without images; none if nothing is missing."""
    label, counts = classes(table), label_counts(table)
    complete, lines = int((label >= 0).sum()), []
    if complete < len(table):
        each = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines.append(f"labels: {each} of {len(table)} images; all three {complete}")
    if not complete:
        lines.append("no image has all three labels: stages can be trained, but not combined by fit-meta")
        return lines + _absent_labels(table)
    return lines + absent_classes(label[label >= 0])


def _absent_labels(table: pd.DataFrame) -> list[str]:
    """A line on the mask states and genders that no image has, of labels that some images have."""
    absent = [
        name
        for column, names in (("mask", MASKS), ("gender", GENDERS))
        if (table[column] != "").any()
        for name in names
        if not (table[column] == name).any()
    ]
    return [f"no image is {' or '.join(absent)}: no stage can learn that"] if absent else []


def label_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many images have a label of mask, gender and age."""
    known = {"mask": table["mask"] != "", "gender": table["gender"] != "", "age": table["age"].notna()}
    return {name: int(rows.sum()) for name, rows in known.items()}


def absent_classes(label: np.ndarray) -> list[str]:
    """A line on the classes that no model can learn, because no image has their mask state, or their gender and age band.

    Args:
        label: int (N,), classes 0..17.
    """
    mask, gender, band = decode(label)
    masks = [name for index, name in enumerate(MASKS) if not (mask == index).any()]
    groups = [
        f"{gender_name} {band_name}"
        for g, gender_name in enumerate(GENDERS)
        for b, band_name in enumerate(BANDS)
        if not ((gender == g) & (band == b)).any()
    ]
    if not masks and not groups:
        return []
    of_mask, *of_group = decode(np.arange(N_CLASSES))
    covered = np.isin(of_mask, mask) & np.isin(of_group[0] * len(BANDS) + of_group[1], gender * len(BANDS) + band)
    numbers = ", ".join(map(str, np.flatnonzero(~covered)))
    return [
        f"no image is {' or '.join([*masks, *groups])}: classes {numbers} cannot be learned, and macro-F1 is over the other"
        f" {int(covered.sum())}"
    ]
