"""Describe a run's folder, and the next command."""

from __future__ import annotations

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
        "next": next_steps(run),
    }


def next_steps(run: Run) -> list[str]:
    """The commands that fit what is not fitted; at last the one that predicts."""
    if stages := [
        name for name in run.recipe.stages if any(run.state(name, fold) != "fitted" for fold in run.recipe.fits)
    ]:
        return [run.command(f"fit-stage {' '.join(stages)} --resume")]
    return [run.command("infer DATA" if run.combiner_state() == "fitted" else "fit-meta")]


def scores_text(scores: dict[str, float]) -> str:
    """Scores in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
