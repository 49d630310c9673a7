"""Images that a run learns from and is never scored on: added ones with labels of their own, or ones that another
run labelled (faces/pseudo.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from facecade.base.artifact import digest, read_json, write_csv, write_json
from facecade.base.errors import FacecadeError
from facecade.faces.table import read_kept

COLUMNS = ["fold", "path", "content", "person", "mask", "gender", "age"]


TRAINED_ON = "trained-on"
"""How `infer` marks an image whose own label the run learned."""


@dataclass(frozen=True)
class ExtraData:
    """Labelled images for the folds of a run to learn from.

    root: where the images are. table: COLUMNS, and others beside, one row for each image and fold that learns
    from it. record: all in one line (`text`), how `infer` marks such images
    (`flag`), whether ages are more than a band (`years`), and what else is worth keeping.
    """

    root: Path
    table: pd.DataFrame
    record: dict[str, Any]

    @property
    def hash(self) -> str:
        return digest(self.table[["fold", "content", "person", "mask", "gender", "age"]].to_numpy().tolist())

    def save(self, folder: Path) -> None:
        """Write labels.csv, and labels.json last."""
        write_csv(folder / "labels.csv", self.table)
        write_json(folder / "labels.json", {**self.record, "data": str(self.root.resolve())})


def read_extra(folder: Path) -> ExtraData:
    """What `ExtraData.save` wrote; raises FacecadeError where it is missing or damaged."""
    if not (folder / "labels.json").exists():
        raise FacecadeError(f"{folder} has lost its labels", "begin the run anew with --data and --recipe")
    record = read_json(folder / "labels.json")
    return ExtraData(Path(record["data"]), read_kept(folder / "labels.csv"), record)


def added(root: Path, table: pd.DataFrame, scored: pd.DataFrame, folds: int) -> ExtraData:
    """Labelled images from elsewhere, for every fold to learn from.

    An image that is scored itself is left out. A person who is scored too, known by the same id, is kept from the
    fold that is scored on that person.

    Args:
        table: their sample table, with `content`.
        scored: the run's own, with `content` and `fold`.

    Raises:
        FacecadeError: all of them are scored.
    """
    new = table[~table["content"].isin(scored["content"])]
    if new.empty:
        raise FacecadeError(
            f"{root} adds no image that is not in the data already", "give others, or leave --extra out"
        )
    own_fold = new["person"].map(scored.groupby("person")["fold"].first())
    known, left_out = int(new["person"][own_fold.notna()].nunique()), len(table) - len(new)
    text = (
        f"added: {len(new)} images of {new['person'].nunique()} people in {root}, learned from and never scored"
        + (f"; {left_out} that are scored left out" if left_out else "")
        + (f"; {known} people with ids that are scored kept from the fold that scores them" if known else "")
    )
    rows = pd.concat([new[own_fold != fold].assign(fold=fold) for fold in range(folds)], ignore_index=True)[COLUMNS]
    return ExtraData(root, rows, {"text": text, "flag": TRAINED_ON, "years": True})
