"""Fits one after another, each by all processes that torchrun started."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, parse_device
from facecade.base.progress import redirect
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.executors.local import try_fit
from facecade.stages.fit import Fit, RunData, train_fold
from facecade.stages.local_crops import on_local_disk
from facecade.training.device import cuda_devices, training_device

if TYPE_CHECKING:
    from facecade.training.distributed import ProcessGroup


def require_together(machine: Machine) -> None:
    """Raises FacecadeError for settings with which processes cannot train one fit together."""
    alone = "leave it out, or call fit-stage without torchrun"
    if machine.executor != "processes":
        raise FacecadeError(f"--executor {machine.executor} starts processes of its own, and so does torchrun", alone)
    if machine.executor_options:
        raise FacecadeError("--executor-option is for slurm, not for torchrun", alone)
    if machine.jobs > 1:
        raise FacecadeError("--jobs is for fits side by side; under torchrun, all processes train one fit", alone)
    if machine.compile:
        raise FacecadeError("--compile does not work with several processes for one fit", alone)
    if parse_device(machine.device)[0] == "mps":
        raise FacecadeError("mps does not work with several processes for one fit", "--device cpu")


class TogetherExecutor(Executor):
    """Sends each fit to the other processes, and fits it with them."""

    def __init__(self, machine: Machine, run_data: RunData, ranks: ProcessGroup) -> None:
        self._ranks, self._submitted = ranks, list[Fit]()
        ranks.send((run_data, machine))
        self._task = _own_task(run_data, machine, ranks)

    def submit(self, fit: Fit) -> None:
        self._submitted.append(fit)

    def wait(self) -> list[tuple[Fit, Outcome]]:
        ended: list[tuple[Fit, Outcome]] = []
        for fit in self._submitted:
            self._ranks.send(fit)
            outcome = try_fit(fit, *self._task, self._ranks)
            self._ranks.settle(outcome if isinstance(outcome, BaseException) else None)
            ended.append((fit, outcome))
        self._submitted = []
        return ended

    def close(self) -> None:
        self._submitted = []


def fit_with_main(ranks: ProcessGroup) -> None:
    """Take part in all fits of the main process, and print nothing but an error of this process alone.

    Raises:
        FacecadeError: the processes cannot go on together (`ProcessGroup.settle`).
    """
    redirect(lambda message: None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the main process says what Ctrl-C stopped
    if (sent := ranks.receive()) is None:
        return
    try:
        run_data, machine = sent
        task = _own_task(run_data, machine, ranks)
    except FacecadeError as error:
        ranks.settle(error)
        return
    while (fit := ranks.receive()) is not None:
        ranks.settle(_try_share(fit, *task, ranks))


def _try_share(fit: Fit, run_data: RunData, machine: Machine, ranks: ProcessGroup) -> Exception | None:
    """This process's share of a fit; returns its error."""
    try:
        with training_device(machine.device, machine.threads) as device:
            train_fold(fit, run_data, device, machine, ranks)
        return None
    except Exception as error:
        return error


def _own_task(run_data: RunData, machine: Machine, ranks: ProcessGroup) -> tuple[RunData, Machine]:
    """The data, on this machine's disk; and the machine, with this process's CUDA device."""
    gpus = cuda_devices(machine.device)
    if gpus and ranks.local >= len(gpus):
        raise FacecadeError(
            f"process {ranks.index} is number {ranks.local + 1} on its machine, and there are {len(gpus)} CUDA devices",
            f"--nproc-per-node {len(gpus)}, or --device cpu",
        )
    if gpus:
        machine = replace(machine, device=f"cuda:{gpus[ranks.local]}")
        torch.cuda.set_device(gpus[ranks.local])
    return on_local_disk(run_data, machine.local_disk), machine
