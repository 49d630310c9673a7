"""Many fits, in an order that respects what they need, whatever runs them (stages/executors)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.base.lease import held
from facecade.base.progress import Bar
from facecade.stages.cost import training_flops
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.fit import Fit, discard_earlier


def fit_all(
    fits: Sequence[Fit],
    table: pd.DataFrame,
    executor: Executor,
    resume: bool,
    done: Callable[[Fit, Outcome], None],
) -> list[Outcome]:
    """Run fits, each after those that it needs; continue if one fails, without those that need it.

    Args:
        fits: in the recipe's order, so that a fit comes after the one it starts from.
        table: the run's sample table.
        resume: go on from the fits' checkpoints; else they are removed.
        done: called with each fit and its outcome as soon as it is known.

    Returns:
        The outcomes, in the order of `fits`.
    """
    outcomes: dict[tuple[str, int], Outcome] = {}
    waiting, running = {fit.key: fit for fit in fits}, set[tuple[str, int]]()
    cost = _gigaflops(fits, table) if len(fits) > 1 else {}
    with Bar("all", sum(cost.values()), unit="") if cost else nullcontext() as bar:

        def show(cost_of_fit: int) -> None:
            if bar:
                bar.advance(cost_of_fit, f"{len(outcomes)} of {len(fits)} fits")

        def finish(fit: Fit, outcome: Outcome) -> None:
            outcomes[fit.key] = outcome
            done(fit, outcome)
            show(cost.get(fit.key, 0))

        show(0)
        while waiting or running:
            unsettled = waiting.keys() | running
            for fit in [fit for fit in waiting.values() if unsettled.isdisjoint(fit.needs)]:
                if reason := _skip_reason(fit, outcomes):
                    del waiting[fit.key]
                    finish(fit, reason)
                elif len(running) < executor.slots:
                    del waiting[fit.key]
                    if error := _submit(fit, executor, resume):
                        finish(fit, error)
                    else:
                        running.add(fit.key)
            for fit, outcome in executor.wait():
                running.remove(fit.key)
                finish(fit, outcome)
    return [outcomes[fit.key] for fit in fits]


def _submit(fit: Fit, executor: Executor, resume: bool) -> Exception | None:
    """Give a fit to the executor; returns the error if its folder cannot be used."""
    try:
        with held(fit.folder) if executor.elsewhere else nullcontext():
            discard_earlier(fit, resume)
    except Exception as error:
        return error
    executor.submit(fit)
    return None


def _gigaflops(fits: Sequence[Fit], table: pd.DataFrame) -> dict[tuple[str, int], int]:
    """Gigaflops of each fit; 1 for a mean of other fits, and for a model that cannot be run (its fit reports why)."""
    costs = {}
    for fit in {fit.stage.name: fit for fit in fits}.values():  # folds cost the same, and counting builds a model
        try:
            costs[fit.stage.name] = round(training_flops(fit.stage, fit.recipe, table) / 1e9) + 1
        except Exception:
            costs[fit.stage.name] = 1
    return {fit.key: 1 if fit.soup else costs[fit.stage.name] for fit in fits}


def _skip_reason(fit: Fit, outcomes: dict[tuple[str, int], Outcome]) -> Outcome | None:
    failed = [stage for stage, fold in fit.needs if isinstance(outcomes.get((stage, fold)), BaseException)]
    return FacecadeError(f"not tried: {failed[0]}, which it is made from, failed") if failed else None
