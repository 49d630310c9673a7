"""Which commands may work in one run at a time: fits of other stages or folds may, beginning the run anew may not.

Both sides hold what is theirs first, and then look for the other: so at most both are refused. It holds for processes of one machine
by locks of the system, and for other machines by leases (base/lease.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from facecade.base.artifact import read_record
from facecade.base.errors import FacecadeError
from facecade.base.lease import held, leased, require_unleased
from facecade.base.lock import locked, require_free
from facecade.runs.run import Run, RunRecord

MOMENT = 10.0
"""Seconds to wait for a run's folder, which other fits hold for a moment when they begin."""


@contextmanager
def held_to_begin(folder: Path) -> Iterator[None]:
    """Hold a run's folder to begin it anew; raises FacecadeError while a fit or the combiner is being fitted."""
    with held(folder):
        for fitted in [*folder.glob("stages/*/*"), *folder.glob("combiner")]:
            require_free(fitted)
            require_unleased(fitted)
        yield


@contextmanager
def held_to_fit(run: Run, folders: Sequence[Path]) -> Iterator[None]:
    """Hold the folders of some fits.

    Raises:
        FacecadeError: another process fits one of them, changes the run, or has begun it anew since it was opened.
    """
    with ExitStack() as stack:
        with locked(run.folder, MOMENT):
            for folder in folders:
                stack.enter_context(locked(folder))
        stack.enter_context(leased(folders))
        require_unleased(run.folder)
        record = read_record(run.folder / "run.json", RunRecord)
        if (record.folds_hash, record.labels_hash) != (run.folds_hash, run.labels_hash):
            raise FacecadeError(f"another process has begun the run in {run.folder} anew", "run the command again")
        yield
