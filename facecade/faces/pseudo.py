"""Pseudo-labels (Lee 2013): train on unlabeled images that another run labeled.

The labels that a fold is trained on must not depend on the people that it is scored on. So each fold has its own label:
that of the other run's models and combiner which were not trained on the people of the same fold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from facecade.base.artifact import read_record
from facecade.base.errors import FacecadeError
from facecade.base.fields import Count, Digest, PathText, Probability, has_keys
from facecade.base.files import require_links_inside
from facecade.base.program import command
from facecade.faces.extra import ExtraData, ExtraRecord
from facecade.faces.labels import BAND_EDGES, GENDERS, MASKS, decode
from facecade.faces.table import read_saved_table

FOLDER = "pseudo"
"""Folder in a run folder for the pseudo-labels that the run made."""

TYPICAL_AGE = (22.0, 45.0, 65.0)
"""Age in years for each band if no stage predicts years; only its band is meaningful for training."""


class PseudoRecord(ExtraRecord):
    """labels.json of pseudo-labels.

    run: folder of the run that made them, on its folds. confidence: minimum probability of a label. offered: images; new: those
    that the run did not train on. labels: of each fold. held_out: the share of the run's held-out images that reach the
    confidence, and the accuracy of their labels.
    """

    made_by: ClassVar[str] = "pseudo-label DATA"

    run: PathText
    confidence: Probability
    folds_hash: Digest
    offered: Count
    new: Count
    labels: list[Count]
    held_out: Annotated[dict[str, Probability], has_keys("share", "accuracy")]


@dataclass(frozen=True)
class PseudoLabels(ExtraData):
    """Extra data whose labels another run made."""

    record: PseudoRecord


def pseudo_text(
    read: int, table: pd.DataFrame, root: Path, run: Path, folds: int, confidence: float, share: float, accuracy: float
) -> str:
    """One line: how many images and labels, of which run, and how often such labels are right.

    Args:
        read: images that the run did not train on. table: a row for each label.
    """
    return (
        f"pseudo-labels of {run}: {read} images of {root} read, {table['path'].nunique()} labelled in at least one fold, "
        f"{len(table)} labels over {folds} folds; {share:.0%} of the run's held-out images reach the confidence"
        f" {confidence:g}, and {accuracy:.1%} of their labels are right"
    )


def read_pseudo(run: Path) -> PseudoLabels:
    """The pseudo-labels that a run made; raises FacecadeError if there are none."""
    if not (run / FOLDER / "labels.json").exists():
        raise FacecadeError(f"{run / FOLDER} holds no pseudo-labels", f"make them: {command('pseudo-label DATA')}")
    require_links_inside(run)
    return read_pseudo_labels(run / FOLDER)


def read_pseudo_labels(folder: Path) -> PseudoLabels:
    """Read what `PseudoLabels.save` wrote; raises FacecadeError if it is missing or damaged."""
    return PseudoLabels(read_saved_table(folder / "labels.csv"), read_record(folder / "labels.json", PseudoRecord))


def without_near(labels: PseudoLabels, near: Collection[str]) -> PseudoLabels:
    """Pseudo-labels without the near-duplicates of scored images, whose content is given.

    Raises:
        FacecadeError: no image is left.
    """
    table = labels.table[~labels.table["content"].isin(near)].reset_index(drop=True)
    if table.empty:
        raise FacecadeError(f"all images of {labels.root} are near-duplicates of scored ones", "leave out --pseudo")
    left_out, text = labels.table["path"].nunique() - table["path"].nunique(), labels.record.text
    text += f"; of these, {left_out} near-duplicates of scored images are left out" if left_out else ""
    return PseudoLabels(table, labels.record.model_copy(update={"text": text}))


def make_pseudo_labels(probability: np.ndarray, years: np.ndarray) -> pd.DataFrame:
    """The most probable class of N images as the columns `mask, gender, age, confidence`.

    Args:
        probability: float (N, 18).
        years: float (N,), predicted ages, NaN where there are none. They are clipped to the class's band, so that
            stages of years and of bands are trained on the same band.
    """
    mask, gender, band = decode(probability.argmax(1))
    low = np.array([1.0, *BAND_EDGES])[band]
    high = np.array([*(np.array(BAND_EDGES) - 0.5), 100.0])[band]
    age = np.where(np.isnan(years), np.array(TYPICAL_AGE)[band], np.clip(years, low, high))
    return pd.DataFrame(
        {
            "mask": np.array(MASKS)[mask],
            "gender": np.array(GENDERS)[gender],
            "age": age.round(2),
            "confidence": probability.max(1).round(4),
        }
    )
