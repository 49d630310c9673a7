"""Fits as tasks of Ray Core: on this machine, or on the machines of a cluster that mount the run's folder.

A task gets what defines the fit, and leaves its results in the fit's folder. No object of Ray's holds them, so they outlive the
cluster and this process.
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError, first_line
from facecade.base.lease import held, see_latest
from facecade.base.machine import Machine, parse_device, user_temporary_folder
from facecade.base.progress import Message, RemoteBars, note, redirect
from facecade.base.ray_cluster import cluster_address, connect
from facecade.records import read_fit_record
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.executors.local import try_fit
from facecade.stages.fit import Fit, RunData

MAX_RETRIES = 3
"""How often a fit is run again whose process or machine was lost."""

LOST_SECONDS = 30.0
"""Within which a process ends that Ray has lost: its next attempt may begin before."""


class RayExecutor(Executor):
    """Runs each fit as a task, which takes `threads` CPUs or one GPU. Ray chooses the machine, and waits for a free one."""

    elsewhere = True

    def __init__(self, machine: Machine, run_data: RunData, run_folder: Path) -> None:
        self.slots = machine.jobs or sys.maxsize
        ray = self._ray = connect(machine.executor)
        local_disk = machine.local_disk or (user_temporary_folder() if cluster_address(machine.executor) else None)
        gpu = _on_gpu(machine.device, ray.cluster_resources())
        machine = replace(machine, device="cuda" if gpu else "cpu", local_disk=local_disk)
        resources = {"num_cpus": 1, "num_gpus": 1} if gpu else {"num_cpus": machine.threads}
        self._task = ray.remote(_run_fit).options(**resources, max_retries=MAX_RETRIES, retry_exceptions=False)
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, max_restarts=-1).remote()
        # paths may be relative to the working directory
        self._shared = ray.put(run_data), machine, Path.cwd(), run_folder, self._mailbox
        self._running: dict[Any, Fit] = {}
        self._bars, self._taken = RemoteBars(), None

    def submit(self, fit: Fit) -> None:
        self._running[self._task.remote(fit, *self._shared)] = fit

    def wait(self) -> list[tuple[Fit, Outcome]]:
        if not self._running:
            return []
        try:
            ended, _ = self._ray.wait([*self._running], timeout=0.2)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise FacecadeError(f"the Ray cluster is gone: {first_line(error)}", "--resume continues") from error
        self._show_messages()
        return [(fit, self._outcome(fit, reference)) for reference in ended if (fit := self._running.pop(reference))]

    def close(self) -> None:
        for reference in self._running:
            with suppress(Exception):  # the cluster may be gone
                self._ray.cancel(reference, force=True)
        self._running = {}
        with suppress(Exception):
            self._ray.kill(self._mailbox)

    def _outcome(self, fit: Fit, reference: Any) -> Outcome:
        self._bars.end(fit.title)
        try:
            failure = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return FacecadeError(f"Ray lost its process {MAX_RETRIES + 1} times: {first_line(error)}", "free memory")
        if failure:
            return FacecadeError(*failure)
        see_latest(fit.folder)
        try:
            return read_fit_record(fit.folder)
        except FacecadeError as error:
            return error

    def _show_messages(self) -> None:
        """Show what has come; never waits, as the mailbox may just be beginning, or its machine be lost."""
        self._taken = self._taken or self._mailbox.take.remote()
        with suppress(self._ray.exceptions.RayError, ConnectionError):
            ready, _ = self._ray.wait([self._taken], timeout=0)
            if ready:
                self._taken = None
                for source, message in self._ray.get(ready[0]):
                    self._bars.receive(source, message)


class _Mailbox:
    """An actor that keeps the messages of all tasks until they are shown."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []

    def put(self, source: str, message: Message) -> None:
        self.messages.append((source, message))

    def take(self) -> list[tuple[str, Message]]:
        taken, self.messages = self.messages, []
        return taken


def _on_gpu(device: str, resources: dict[str, float]) -> bool:
    """Whether fits run on GPUs of a cluster; notes where it has none now."""
    kind, _ = parse_device(device)
    if kind == "mps":
        raise FacecadeError("Ray has no Apple GPUs (mps) to give", "--device cpu")
    if kind == "cuda" and not resources.get("GPU"):
        note("the Ray cluster has no GPU now: fits wait for one")
    return kind == "cuda" or (kind == "auto" and bool(resources.get("GPU")))


def _run_fit(
    fit: Fit, run_data: RunData, machine: Machine, directory: Path, run_folder: Path, mailbox: Any
) -> tuple[str, str] | None:
    """A task: run a fit, and return its error's message and hint, if it has one."""
    from facecade.stages.local_crops import on_local_disk

    redirect(lambda message: mailbox.put.remote(fit.title, message))
    try:
        with suppress(FileNotFoundError):
            os.chdir(directory)
        if not run_folder.is_dir():
            raise FacecadeError(
                f"{run_folder.absolute()} is not on {platform.node()}", "mount the run's folder on all machines"
            )
        with held(fit.folder, LOST_SECONDS):
            outcome = try_fit(fit, on_local_disk(run_data, machine.local_disk), machine)
    except Exception as error:
        outcome = error
    if not isinstance(outcome, BaseException):
        return None
    message = str(outcome) if isinstance(outcome, FacecadeError) else f"{type(outcome).__name__}: {outcome}"
    return message, getattr(outcome, "hint", "")
