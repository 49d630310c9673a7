"""Describe a run's folder, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facecade.runs.run import Run


def describe(run: Run) -> dict[str, Any]:
    """Every fit of every stage, the combiner, and the next command."""
    fits: list[dict[str, Any]] = []
    for stage in run.recipe.stages:
        for fold in run.recipe.fits:
            record = run.fit_record(stage, fold)
            fits.append(
                {
                    "stage": stage,
                    "fold": fold,
                    "name": run.recipe.fit_name(fold),
                    "state": run.state(stage, fold),
                    "backbone": run.recipe.stages[stage].backbone,
                    "score": record.score if record else {},
                    "seconds": record.seconds if record else None,
                }
            )
    unfitted = list(dict.fromkeys(item["stage"] for item in fits if item["state"] != "fitted"))
    combiner: dict[str, Any] = {"state": run.combiner_state()}
    if combined := run.combiner_record():
        combiner |= {"method": combined.method, "score": combined.nested_choice["macro-F1"]}
    return {
        "data": str(run.root),
        "images": len(run.table),
        "people": int(run.table["person"].nunique()),
        "folds_hash": run.folds_hash,
        "extra_data": [each.record.text for each in run.extra_data.values()],
        "fits": fits,
        "combiner": combiner,
        "next": [_next_step(run, unfitted, combiner["state"])],
    }


def next_step(run: Run) -> str:
    """The command that fits what is not fitted; at last the one that predicts."""
    fits = run.recipe.fits
    unfitted = [name for name in run.recipe.stages if any(run.state(name, fold) != "fitted" for fold in fits)]
    return _next_step(run, unfitted, run.combiner_state())


def _next_step(run: Run, unfitted: Sequence[str], combiner: str) -> str:
    if unfitted:
        return run.command(f"fit-stage {' '.join(unfitted)} --resume")
    return run.command("infer DATA" if combiner == "fitted" else "fit-meta")


def scores_text(scores: dict[str, float]) -> str:
    """Scores in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
