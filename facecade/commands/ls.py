"""`ls`: list the stages, folds and scores of a run, and what is stale."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns, interval


@click.command("ls", cls=Command)
@options.ARTIFACTS
@options.JSON
def command(artifacts: Path, as_json: bool) -> None:
    """List the stages, folds, states and scores of a run.

    \b
    Example:
      python cli.py ls --artifacts artifacts
    """
    from facecade.runs.describe import describe
    from facecade.runs.run import open_run

    result = describe(open_run(artifacts))
    click.echo(json.dumps(result, indent=2) if as_json else _list_text(result))
    say_next(*result["next"])


def _list_text(result: dict[str, Any]) -> str:
    measures = list(dict.fromkeys(_measure(fit["stage"], name) for fit in result["fits"] for name in fit["score"]))
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for fit in result["fits"]:
        by_stage.setdefault(fit["stage"], []).append(fit)
    rows = []
    for stage, fits in by_stage.items():
        states = Counter(fit["state"] for fit in fits)
        scores: dict[str, list[float]] = {}
        for fit in fits:
            for name, value in fit["score"].items() if fit["state"] == "fitted" else ():
                scores.setdefault(_measure(stage, name), []).append(value)
        means = {name: fmean(values) for name, values in scores.items()}
        cells = [f"{means[name]:.{2 if name == 'age MAE' else 4}f}" if name in means else "" for name in measures]
        minutes = f"{sum(fit['seconds'] or 0 for fit in fits) / 60:.1f}"
        folds = ", ".join(f"{count} {state}" for state, count in states.items())
        rows.append([stage, folds, *cells, minutes, fits[0]["backbone"]])
    combiner = result["combiner"]
    lines = [
        f"data {result['data']}: {result['images']} images of {result['people']} people; folds {result['folds_hash']}",
        *result["extra_data"],
        "",
        columns(rows, ["stage", "folds", *measures, "minutes", "backbone"], ["minutes", "backbone"]),
        *(["", "Scores are means over the fitted folds, each on its held-out people."] if measures else []),
        "",
        f"combiner: {combiner['state']}"
        + (f" ({combiner['method']}, nested macro-F1 {interval(combiner['score'])})" if combiner.get("method") else ""),
    ]
    return "\n".join(lines)


def _measure(stage: str, name: str) -> str:
    """The column name of a stage's measure in the table of all stages."""
    if name.endswith("mae"):
        return "age MAE"
    return name if " " in name else f"{stage.rstrip('-0123456789')} {name}"
