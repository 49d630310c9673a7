"""Many fits: one after another, or several at once, each in a process with its own cores.

Two models that train at the same time on one core each are 1.5 times as fast as one after the other on both cores:
nothing waits for decoding, augmentation or another thread (benchmarks/RESULTS.md names the machine).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing.queues import Queue

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, cores
from facecade.base.progress import Bar, Message, RemoteBars, redirect
from facecade.base.worker import Worker
from facecade.records import FitRecord
from facecade.stages.cost import training_flops
from facecade.stages.fit import Fit, RunData, fit_fold

Outcome = FitRecord | BaseException
"""A fit's record, or the error that prevented it."""


def fit_all(
    fits: Sequence[Fit], run_data: RunData, machine: Machine, resume: bool, done: Callable[[Fit, Outcome], None]
) -> list[Outcome]:
    """Run fits in an order that respects their dependencies; continue if one fails.

    Args:
        fits: in the recipe's order, so that a fit comes after the one it starts from.
        done: called with each fit and its outcome as soon as it is known.

    Returns:
        The outcomes, in the order of `fits`.
    """
    outcomes: dict[tuple[str, int], Outcome] = {}
    jobs = min(machine.jobs or _default_jobs(machine), len(fits))
    cost = _gigaflops(fits, run_data) if len(fits) > 1 else {}
    with Bar("all", sum(cost.values()), unit="") if cost else nullcontext() as bar:

        def show(cost_of_fit: int) -> None:
            if bar:
                bar.advance(cost_of_fit, f"{len(outcomes)} of {len(fits)} fits")

        def finish(fit: Fit, outcome: Outcome) -> None:
            outcomes[fit.key] = outcome
            done(fit, outcome)
            show(cost.get(fit.key, 0))

        show(0)
        if jobs <= 1:
            for fit in fits:
                finish(fit, _skip_reason(fit, outcomes) or _try_fit(fit, run_data, machine, resume))
        else:
            _fit_in_parallel(fits, run_data, machine, jobs, resume, outcomes, finish)
    return [outcomes[fit.key] for fit in fits]


def _default_jobs(machine: Machine) -> int:
    from facecade.training.device import torch_device

    return 1 if torch_device(machine.device).type == "cuda" else max(1, cores() // machine.threads)


def _gigaflops(fits: Sequence[Fit], run_data: RunData) -> dict[tuple[str, int], int]:
    """Gigaflops of each fit; 1 for a mean of other fits, and for a model that cannot be run (its fit reports why)."""
    costs = {}
    for fit in {fit.stage.name: fit for fit in fits}.values():  # folds cost the same, and counting builds a model
        try:
            costs[fit.stage.name] = round(training_flops(fit.stage, fit.recipe, run_data.table) / 1e9) + 1
        except Exception:
            costs[fit.stage.name] = 1
    return {fit.key: 1 if fit.soup else costs[fit.stage.name] for fit in fits}


def _skip_reason(fit: Fit, outcomes: dict[tuple[str, int], Outcome]) -> Outcome | None:
    failed = [stage for stage, fold in fit.needs if isinstance(outcomes.get((stage, fold)), BaseException)]
    return FacecadeError(f"not tried: {failed[0]}, which it is made from, failed") if failed else None


def _try_fit(fit: Fit, run_data: RunData, machine: Machine, resume: bool) -> Outcome:
    from facecade.training.device import torch_device, torch_threads

    try:
        device = torch_device(machine.device)
        with torch_threads(machine.threads if device.type == "cpu" else 0):
            return fit_fold(fit, run_data, device, machine, resume)
    except Exception as error:
        return error


def _fit_in_parallel(
    fits: Sequence[Fit],
    run_data: RunData,
    machine: Machine,
    jobs: int,
    resume: bool,
    outcomes: dict[tuple[str, int], Outcome],
    finish: Callable[[Fit, Outcome], None],
) -> None:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    messages: Queue[tuple[int, Message]] = context.Queue()
    bars = RemoteBars()
    waiting = list(fits)
    running: dict[Future[Outcome], tuple[Fit, Worker]] = {}
    with ExitStack() as pools, _workers_killed_on_error():  # killed first: the pools wait for their workers

        def new_worker() -> Worker:
            return pools.enter_context(Worker(context, _init_worker, messages, run_data, machine, resume))

        idle = [new_worker() for _ in range(jobs)]
        while waiting or running:
            unfinished = {fit.key for fit in [*waiting, *(fit for fit, _ in running.values())]}
            for fit in [fit for fit in waiting if unfinished.isdisjoint(fit.needs)]:
                if reason := _skip_reason(fit, outcomes):
                    waiting.remove(fit)
                    finish(fit, reason)
                elif idle:
                    waiting.remove(fit)
                    worker = idle.pop()
                    try:
                        future = worker.submit(_run_fit, fit)
                    except BrokenExecutor:  # killed while idle: no fit is lost
                        worker = new_worker()
                        future = worker.submit(_run_fit, fit)
                    running[future] = fit, worker
            finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            while not messages.empty():
                bars.receive(*messages.get())
            for future in finished:
                fit, worker = running.pop(future)
                killed = isinstance(future.exception(), BrokenExecutor)
                idle.append(new_worker() if killed else worker)
                finish(fit, _outcome(future))


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenExecutor:
        return FacecadeError("its process was killed, perhaps for want of memory", "give --jobs 1")


@contextmanager
def _workers_killed_on_error() -> Iterator[None]:
    """Without it, Ctrl-C would wait for the running fits."""
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise


_task: tuple[RunData, Machine, bool]


def _init_worker(messages: Queue[tuple[int, Message]], run_data: RunData, machine: Machine, resume: bool) -> None:
    global _task
    _task = run_data, machine, resume
    redirect(lambda message: messages.put((os.getpid(), message)))


def _run_fit(fit: Fit) -> Outcome:
    return _try_fit(fit, *_task)
