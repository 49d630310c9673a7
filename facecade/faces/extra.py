"""Extra data, which a run is trained on and never scored on: labeled images (--extra), or images with another run's
pseudo-labels (faces/pseudo.py)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pandas as pd

from facecade.base.artifact import Record, digest, read_record, remove_leftovers, write_csv, write_record
from facecade.base.errors import FacecadeError
from facecade.base.fields import PathText, one_of
from facecade.faces.boxes import box_columns
from facecade.faces.table import read_saved_table

COLUMNS = ["fold", "path", "content", "person", "mask", "gender", "age"]


TRAINED_ON, PSEUDO_LABELLED = "trained-on", "pseudo-labelled"
"""Flags by which `infer` marks an image that the run was trained on, with its own label or with a pseudo-label."""

Flag = Annotated[str, one_of(TRAINED_ON, PSEUDO_LABELLED)]


class ExtraRecord(Record):
    """labels.json of extra data.

    data: folder of the images. text: a summary in one line. years: whether ages are years, and not only bands.
    """

    made_by: ClassVar[str] = "fit-stage all --data DATA --recipe RECIPE --extra EXTRA"

    data: PathText
    text: PathText
    flag: Flag
    years: bool


@dataclass(frozen=True)
class ExtraData:
    """Labeled images that the folds of a run are trained on.

    table: COLUMNS and possibly more, one row for each image and each fold that is trained on it.
    """

    table: pd.DataFrame
    record: ExtraRecord

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return Path(self.record.data)

    @property
    def hash(self) -> str:
        columns = ["fold", "content", "person", "mask", "gender", "age", *box_columns(self.table)]
        return digest(self.table[columns].to_numpy().tolist())

    def save(self, folder: Path) -> None:
        """Write labels.csv, and labels.json last."""
        remove_leftovers(folder)
        write_csv(folder / "labels.csv", self.table)
        write_record(folder / "labels.json", self.record)


def read_extra(folder: Path) -> ExtraData:
    """Read what `ExtraData.save` wrote; raises FacecadeError if it is missing or damaged."""
    return ExtraData(read_saved_table(folder / "labels.csv"), read_record(folder / "labels.json", ExtraRecord))


def build_extra(
    root: Path, table: pd.DataFrame, scored: pd.DataFrame, folds: int, near: Collection[str] = (), years: bool = True
) -> ExtraData:
    """Extra labeled images for every fold.

    An image that is also scored, or is a near-duplicate of one, is left out. A person with the same id in the run's own
    table is left out of the fold that is scored on that person.

    Args:
        table: sample table of the extra images, with `content`.
        scored: the run's own sample table, with `content` and `fold`.
        near: content of the near-duplicates of scored images.
        years: whether ages are years, and not only bands.

    Raises:
        FacecadeError: all of the images are left out.
    """
    is_scored, is_near = table["content"].isin(scored["content"]), table["content"].isin(near)
    new = table[~is_scored & ~is_near]
    if new.empty:
        raise FacecadeError(f"all images of {root} are already in the data", "give others, or leave out --extra")
    own_fold = new["person"].map(scored.groupby("person")["fold"].first())
    shared, left_out, left_near = (
        new["person"][own_fold.notna()].nunique(),
        is_scored.sum(),
        (is_near & ~is_scored).sum(),
    )
    text = (
        f"extra data: {len(new)} images of {new['person'].nunique()} people in {root}, trained on and never scored"
        + (f"; left out {left_out} images that are scored" if left_out else "")
        + (f"; left out {left_near} near-duplicates of scored images" if left_near else "")
        + (f"; {shared} people are also scored, and left out of the fold that is scored on them" if shared else "")
    )
    rows = pd.concat([new[own_fold != fold].assign(fold=fold) for fold in range(folds)], ignore_index=True)[
        [*COLUMNS, *box_columns(new)]
    ]
    return ExtraData(rows, ExtraRecord(data=str(root.resolve()), text=text, flag=TRAINED_ON, years=years))
