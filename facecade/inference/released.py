"""Which cascade predicts: the one that is named, the one in artifacts/, or the released one, an export that comes with the package."""

from __future__ import annotations

from pathlib import Path

from facecade.base.progress import note
from facecade.base.released import RELEASED
from facecade.inference.exported import is_export
from facecade.runs.run import is_run

DEFAULT = Path("artifacts")
"""Folder of the user's own run."""


def is_released(folder: Path) -> bool:
    """Whether a folder is that of the released cascade."""
    return folder.resolve() == RELEASED.resolve()


def cascade_folder(named: str | Path | None) -> Path:
    """The folder of the run or export that predicts.

    Args:
        named: by the user; None: `artifacts/` where it holds a run or an export, else the released cascade, with a note. Without a
            released cascade it is `artifacts/`, and opening it raises the error.
    """
    if named is not None:
        return Path(named)
    if is_run(DEFAULT) or is_export(DEFAULT) or not is_export(RELEASED):
        return DEFAULT
    note("the released cascade predicts (research use); --artifacts DIR chooses another")
    return RELEASED
