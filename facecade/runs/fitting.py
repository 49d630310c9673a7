"""Messages and checks of `fit_stage`: before, during and after fitting."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from facecade.base.artifact import versions
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.progress import note
from facecade.records import FitRecord, read_fit_record
from facecade.report.tracking import TrackedRun, Tracker
from facecade.runs.describe import scores_text
from facecade.runs.fits import make_fit
from facecade.runs.run import Run

if TYPE_CHECKING:
    from facecade.stages.fit import Fit


def require_years(run: Run, stages: Sequence[str]) -> None:
    """Raises FacecadeError for stages that train on years where extra data have only age bands."""
    banded = [each for each in run.extra_data.values() if not each.record.years]
    of_years = [name for name in stages if banded and make_fit(run, name, 0).stage.learns_years]
    if of_years:
        raise FacecadeError(
            f"the extra data have only age bands, and {', '.join(of_years)} would train on years made from them",
            "use data with years, or the pseudo-labels of a run whose stages predict years",
        )


def require_labels(run: Run, fits: Sequence[Fit]) -> None:
    """Raises FacecadeError for stages that have nothing to learn from the data, or from the people that a fit trains on."""
    from facecade.stages.check import nothing_to_learn

    extra = [each.table for each in run.extra_data.values()]
    all_rows = pd.concat([run.table, *extra], ignore_index=True)
    reasons: dict[str, str] = {}
    for fit in fits:
        everybody = fit.fold == run.recipe.folds
        own_extra = [table[everybody | (table["fold"] == fit.fold)] for table in extra]
        trained_on = pd.concat([run.table[run.table["fold"] != fit.fold], *own_extra], ignore_index=True)
        if fit.stage.name not in reasons and (reason := nothing_to_learn(fit.stage, fit.recipe, trained_on)):
            always = nothing_to_learn(fit.stage, fit.recipe, all_rows)
            reasons[fit.stage.name] = (
                f"{fit.stage.name}: {always}" if always else f"{fit.title}: {reason}, without its held-out people"
            )
    if reasons:
        names = dict.fromkeys(fit.stage.name for fit in fits)
        able = [name for name in names if not _starts_from(run, name, reasons)]
        others = ", or fit the others: " + run.command(f"fit-stage {' '.join(able)}") if able else ""
        lines = "\n  ".join(reasons.values())
        raise FacecadeError(f"stages that have nothing to learn:\n  {lines}", f"label more people{others}")


def _starts_from(run: Run, stage: str | None, stages: Collection[str]) -> bool:
    """Whether a stage is one of some stages, or starts from one of them, directly or not."""
    return stage is not None and (stage in stages or _starts_from(run, run.recipe.stages[stage].start_stage, stages))


def note_states(run: Run, requested: Sequence[Fit], todo: Sequence[Fit], machine: Machine, resume: bool) -> None:
    """Note seed, device and versions, which fits are already there, and which are added."""
    from facecade.training.device import torch_device

    device, installed = f"by {machine.executor}", versions()
    if not machine.elsewhere:
        kind = torch_device(machine.device).type
        device = f"{kind}, {'bfloat16 autocast' if machine.uses_bf16(kind) else 'float32'}"
    note(
        f"seed {run.recipe.seed}; {device}; "
        + ", ".join(f"{name} {installed[name]}" for name in ("python", "torch", "timm", "albumentations"))
    )
    for fit in requested:
        if run.state(*fit.key) == "fitted":
            score = ", ".join(["fitted already", *_score_text(read_fit_record(fit.folder))])
            note(f"{fit.title}: {score}" + ("" if resume else "; fitting it again (--resume would keep it)"))
    keys = {fit.key for fit in requested}
    for fit in todo:
        if fit.key not in keys:
            note(f"{fit.title}: fitting it first, because others start from it")


class FitReporter:
    """Notes the result of each fit, and writes it to a tracker."""

    def __init__(self, run: Run, tracker: Tracker | None) -> None:
        self.run, self.tracker = run, tracker

    def __call__(self, fit: Fit, outcome: FitRecord | BaseException) -> None:
        from facecade.training.tracking import read_history

        if isinstance(outcome, BaseException):
            note(f"{fit.title}: failed: {outcome}")
            return
        note(f"{fit.title}: " + ", ".join([*_score_text(outcome), f"{outcome.seconds:.0f} s"]))
        if self.tracker:
            scores = {**outcome.score, "seconds": outcome.seconds}
            tags = {"run": str(self.run.folder), "stage": fit.stage.name, "signature": fit.signature}
            settings, history = outcome.recipe.model_dump(), read_history(fit.folder)
            self.tracker.log_run(TrackedRun(fit.title, settings, scores, tags, history))


def raise_failures(fits: Sequence[Fit], outcomes: Sequence[FitRecord | BaseException]) -> None:
    """Raises one FacecadeError that names every fit that failed, and why."""
    failed = [(fit, error) for fit, error in zip(fits, outcomes, strict=True) if isinstance(error, BaseException)]
    if failed:
        lines = [f"{fit.title}: {error}" for fit, error in failed]
        cause = failed[0][1]
        hint = (
            getattr(cause, "hint", "") or "fix it, then run the same command again"
        ) + "; --resume keeps what is fitted"
        raise FacecadeError(f"{len(failed)} of {len(fits)} fits failed:\n  " + "\n  ".join(lines), hint) from cause


def _score_text(record: FitRecord) -> list[str]:
    """A fit's scores on held-out people, in words; empty where nobody was held out."""
    return [f"{scores_text(record.score)} on held-out people"] if record.score else []
