"""Many fits: one after another, or several at once, each in a process with cores of its own.

Two models that train side by side on a core each are half as fast again as two that share both cores in
turn: nothing waits for decoding, augmentation or another thread (benchmarks/RESULTS.md says on what machine).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing.connection import wait as wait_for
from multiprocessing.queues import Queue
from typing import Any

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, cores
from facecade.base.progress import Bar, Listener, Message, tell
from facecade.stages.cost import training_flops
from facecade.stages.fit import Fit, RunData, fit_fold

Outcome = dict[str, Any] | BaseException
"""A fit's record, or why there is none."""


def fit_all(
    fits: Sequence[Fit], run_data: RunData, machine: Machine, resume: bool, done: Callable[[Fit, Outcome], None]
) -> list[Outcome]:
    """Run fits, in an order that lets each find the one it starts from; go on where one fails.

    Args:
        fits: in the recipe's order, so that a fit comes after the one it starts from.
        done: called with each fit and its outcome as soon as it is there.

    Returns:
        The outcomes, in the order of `fits`.
    """
    outcomes: dict[tuple[str, int], Outcome] = {}
    jobs = min(machine.jobs or _jobs(machine), len(fits))
    cost = _costs(fits, run_data) if len(fits) > 1 else {}
    with Bar("all", sum(cost[fit.key] for fit in fits), "gigaflops") if cost else nullcontext() as bar:

        def settle(fit: Fit, outcome: Outcome) -> None:
            outcomes[fit.key] = outcome
            done(fit, outcome)
            if bar:
                bar.advance(cost[fit.key], f"{len(outcomes)} of {len(fits)} fits")

        if jobs <= 1:
            for fit in fits:
                settle(fit, _skipped(fit, outcomes) or _attempt(fit, run_data, machine, resume))
        else:
            _fit_side_by_side(fits, run_data, machine, jobs, resume, outcomes, settle)
    return [outcomes[fit.key] for fit in fits]


def _jobs(machine: Machine) -> int:
    from facecade.training.device import torch_device

    return 1 if torch_device(machine.device).type == "cuda" else max(1, cores() // machine.threads)


def _costs(fits: Sequence[Fit], run_data: RunData) -> dict[tuple[str, int], int]:
    """Gigaflops of each fit, 1 of a mean of others; 1 where its model cannot even be run, which its fit will say."""
    costs = {}
    for fit in {fit.stage.name: fit for fit in fits}.values():  # folds cost the same, and counting builds the model
        try:
            costs[fit.stage.name] = round(training_flops(fit.stage, fit.recipe, run_data.table) / 1e9) + 1
        except Exception:
            costs[fit.stage.name] = 1
    return {fit.key: 1 if fit.soup else costs[fit.stage.name] for fit in fits}


def _skipped(fit: Fit, outcomes: dict[tuple[str, int], Outcome]) -> Outcome | None:
    failed = [stage for stage, fold in fit.needs if isinstance(outcomes.get((stage, fold)), BaseException)]
    return FacecadeError(f"not tried: {failed[0]}, which it is made from, failed") if failed else None


def _attempt(fit: Fit, run_data: RunData, machine: Machine, resume: bool) -> Outcome:
    from facecade.training.device import threads, torch_device

    try:
        device = torch_device(machine.device)
        with threads(machine.threads if device.type == "cpu" else 0):
            return fit_fold(fit, run_data, device, machine, resume)
    except Exception as error:
        return error


def _fit_side_by_side(
    fits: Sequence[Fit],
    run_data: RunData,
    machine: Machine,
    jobs: int,
    resume: bool,
    outcomes: dict[tuple[str, int], Outcome],
    settle: Callable[[Fit, Outcome], None],
) -> None:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    messages: Queue[tuple[int, Message]] = context.Queue()
    listener = Listener()
    waiting = list(fits)
    running: dict[Future[Outcome], tuple[Fit, ProcessPoolExecutor]] = {}
    with _workers_killed_on_error(), ExitStack() as pools:

        def process() -> ProcessPoolExecutor:
            """One process, by itself: a pool of several would lose all its fits where one process is killed."""
            task = (messages, run_data, machine, resume)
            return pools.enter_context(ProcessPoolExecutor(1, context, _begin_worker, task))

        idle = [process() for _ in range(jobs)]
        while waiting or running:
            unsettled = {fit.key for fit in [*waiting, *(fit for fit, _ in running.values())]}
            for fit in [fit for fit in waiting if unsettled.isdisjoint(fit.needs)]:
                if skipped := _skipped(fit, outcomes):
                    waiting.remove(fit)
                    settle(fit, skipped)
                elif idle:
                    waiting.remove(fit)
                    worker = idle.pop()
                    try:
                        future = worker.submit(_work, fit)
                    except BrokenExecutor:  # killed while it waited, which costs no fit
                        worker = process()
                        future = worker.submit(_work, fit)
                    running[future] = fit, worker
            finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            while not messages.empty():
                listener.receive(*messages.get())
            for future in finished:
                fit, worker = running.pop(future)
                killed = isinstance(future.exception(), BrokenExecutor)
                idle.append(process() if killed else worker)
                settle(fit, _outcome(future))


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenExecutor:
        return FacecadeError("its process was killed, perhaps for want of memory", "give --jobs 1")


@contextmanager
def _workers_killed_on_error() -> Iterator[None]:
    """Without it, Ctrl-C would wait for the fits under way."""
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise


_task: tuple[RunData, Machine, bool]


def _begin_worker(messages: Queue[tuple[int, Message]], run_data: RunData, machine: Machine, resume: bool) -> None:
    """In a new process: Ctrl-C is the parent's to answer, and the parent's end is this one's."""
    global _task
    _task = run_data, machine, resume
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tell(lambda message: messages.put((os.getpid(), message)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait_for([parent.sentinel])
        os._exit(1)


def _work(fit: Fit) -> Outcome:
    return _attempt(fit, *_task)
