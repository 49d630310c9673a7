"""Fits in this process, one after another."""

from __future__ import annotations

from contextlib import suppress

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.records import read_fit_record
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.fit import Fit, RunData, fit_fold
from facecade.training.ranks import ALONE, Ranks


class LocalExecutor(Executor):
    """Runs each fit when it is waited for."""

    def __init__(self, machine: Machine, run_data: RunData) -> None:
        self._machine, self._run_data = machine, run_data
        self._submitted: list[Fit] = []

    def submit(self, fit: Fit) -> None:
        self._submitted.append(fit)

    def wait(self) -> list[tuple[Fit, Outcome]]:
        ended = [(fit, try_fit(fit, self._run_data, self._machine)) for fit in self._submitted]
        self._submitted = []
        return ended

    def close(self) -> None:
        self._submitted = []


def try_fit(fit: Fit, run_data: RunData, machine: Machine, ranks: Ranks = ALONE) -> Outcome:
    """Run a fit in this process, which may be the main one of several; its error is an outcome, so that others go on. A fit that has
    ended is not run again: its process was lost before it could say so."""
    from facecade.training.device import training_device

    if ranks.count == 1:  # several would have to agree on it
        with suppress(FacecadeError):
            if (record := read_fit_record(fit.folder)).signature == fit.signature:
                return record
    try:
        with training_device(machine.device, machine.threads) as device:
            return fit_fold(fit, run_data, device, machine, ranks)
    except Exception as error:
        return error
