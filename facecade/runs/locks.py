"""Which commands may work in one run at a time: fits of other stages or folds may, beginning the run anew may not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from facecade.base.artifact import read_record
from facecade.base.errors import FacecadeError
from facecade.base.lock import locked, require_free
from facecade.runs.run import Run, RunRecord


@contextmanager
def held_to_begin(folder: Path) -> Iterator[None]:
    """Hold a run's folder to begin it anew; raises FacecadeError while a fit or the combiner is being fitted."""
    with locked(folder):
        for fitted in [*folder.glob("stages/*/*"), *folder.glob("combiner")]:
            require_free(fitted)
        yield


@contextmanager
def held_to_fit(run: Run, folders: Sequence[Path]) -> Iterator[None]:
    """Hold the folders of some fits.

    Raises:
        FacecadeError: another process fits one of them, changes the run, or has begun it anew since it was opened.
    """
    with ExitStack() as held:
        with locked(run.folder):
            record = read_record(run.folder / "run.json", RunRecord)
            if (record.folds_hash, record.labels_hash) != (run.folds_hash, run.labels_hash):
                raise FacecadeError(f"another process has begun the run in {run.folder} anew", "run the command again")
            for folder in folders:
                held.enter_context(locked(folder))
        yield
