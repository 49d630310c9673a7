"""Fits side by side on this machine, each in a process with its own cores or its own GPU.

Two models that train at the same time on one core each are 1.5 times as fast as one after the other on both cores:
nothing waits for decoding, augmentation or another thread (benchmarks/RESULTS.md names the machine).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.progress import Message, RemoteBars, note, redirect
from facecade.base.worker import Worker
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.executors.local import try_fit
from facecade.stages.fit import Fit, RunData


@dataclass
class _Slot:
    """Room for one fit. environment: variables of its processes, which say which GPU is theirs."""

    environment: Mapping[str, str]
    worker: Worker | None = None


class ProcessExecutor(Executor):
    """Runs each fit in one of several processes.

    Where the system kills one while others run, memory was short: from then on one fit less runs at a time, and the fit is tried
    again. It fails if its process is killed while no other one runs.
    """

    def __init__(self, machine: Machine, run_data: RunData, jobs: int, gpus: Sequence[int] = ()) -> None:
        """
        Args:
            jobs: fits at a time.
            gpus: CUDA devices that they share, each as many; a process sees one.
        """
        self._context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._messages: Queue[tuple[str, Message]] = self._context.Queue()
        self._task = run_data, replace(machine, device="cuda") if gpus else machine
        environments = [visible_gpu(gpus[index % len(gpus)]) if gpus else {} for index in range(jobs)]
        self.slots = jobs
        self._free = [_Slot(environment) for environment in reversed(environments)]
        self._queue: list[Fit] = []
        self._running: dict[Future[Outcome], tuple[Fit, _Slot]] = {}
        self._bars = RemoteBars()

    def submit(self, fit: Fit) -> None:
        self._queue.append(fit)
        self._start()

    def wait(self) -> list[tuple[Fit, Outcome]]:
        self._start()
        together = len(self._running)
        finished, _ = wait(self._running, timeout=0.2, return_when=FIRST_COMPLETED) if together else (set(), set())
        while not self._messages.empty():
            self._bars.receive(*self._messages.get())
        ended: list[tuple[Fit, Outcome]] = []
        for future in finished:
            fit, slot = self._running.pop(future)
            self._bars.end(fit.title)
            error = future.exception()
            if not isinstance(error, BrokenExecutor):
                self._free.append(slot)
                ended.append((fit, error or future.result()))
                continue
            _stop(slot)
            if together == 1:
                self._free.append(slot)
                ended.append((fit, FacecadeError("its process was killed, perhaps for want of memory", "free memory")))
                continue
            if self.slots > 1:
                self.slots -= 1
            else:
                self._free.append(slot)
            self._queue.append(fit)
            note(f"{fit.title}: its process was killed, perhaps for want of memory; again, with --jobs {self.slots}")
        return ended

    def close(self) -> None:
        slots = [*self._free, *(slot for _, slot in self._running.values())]
        for slot in slots:  # all first: a pool waits for its process
            if slot.worker:
                slot.worker.kill()
        for slot in slots:
            _stop(slot)

    def _start(self) -> None:
        """Give the queued fits to the free processes."""
        while self._queue and self._free:
            fit, slot = self._queue.pop(0), self._free.pop()
            future = None
            if slot.worker:
                with suppress(BrokenExecutor):  # killed while idle: no fit is lost
                    future = slot.worker.submit(_run_fit, fit)
            if future is None:
                _stop(slot)
                slot.worker = Worker(self._context, slot.environment, _init_worker, self._messages, *self._task)
                future = slot.worker.submit(_run_fit, fit)
            self._running[future] = fit, slot


def visible_gpu(index: int) -> dict[str, str]:
    """The environment of a process that sees one of the CUDA devices that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[index].strip() if visible else str(index)}


def _stop(slot: _Slot) -> None:
    if slot.worker:
        slot.worker.shutdown()
        slot.worker = None


_messages: Queue[tuple[str, Message]]
_task: tuple[RunData, Machine]


def _init_worker(messages: Queue[tuple[str, Message]], run_data: RunData, machine: Machine) -> None:
    global _messages, _task
    _messages, _task = messages, (run_data, machine)


def _run_fit(fit: Fit) -> Outcome:
    redirect(lambda message: _messages.put((fit.title, message)))
    return try_fit(fit, *_task)
