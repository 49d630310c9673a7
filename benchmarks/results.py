"""Run all steps on real images, and write benchmarks/RESULTS.md and the README's results from their files.

    python benchmarks/results.py ../shared/data/faces --recipe recipes/cpu.toml

Each step is a command as a user types it, timed, with its peak memory. A step that is done is not run again, so an
interrupted call resumes. All scores are read from the artifacts.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from speed import speed
from steps import ROOT, into, kept, marked, run_step

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_json
from facecade.report.results import render, summary


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/cpu.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output"), show_default=True)
@click.option(
    "--again", multiple=True, metavar="STEP", help="Run this step again although it is done, for example 'fit-meta'."
)
def main(data: Path, recipe: Path, artifacts: Path, output: Path, again: tuple[str, ...]) -> None:
    """Fit, stack, infer and score on DATA (with train/ and eval/); write benchmarks/RESULTS.md, or another page
    for another recipe than cpu.toml."""
    folder = ["--artifacts", str(artifacts)]
    begin = ["--data", str(data / "train"), "--recipe", str(recipe)]
    plan = [
        ("fit-stage all", ["fit-stage", "all", "--resume", *begin, *folder]),
        ("fit-meta", ["fit-meta", "--recipe", str(recipe), *folder]),
        ("infer", ["infer", str(data / "eval"), *folder, "--output", str(output)]),
        (
            "evaluate",
            ["evaluate", str(output / "submission.csv"), str(data / "eval/eval_labels.csv"), "--output", str(output)],
        ),
    ]
    record = artifacts / "steps.json"
    done: dict[str, dict[str, Any]] = json.loads(record.read_text()) if record.exists() else {}
    for place, (name, arguments) in enumerate(plan):
        if name in done and name not in again:
            continue
        click.echo(f"{time.strftime('%H:%M:%S')} {name}", err=True)
        done[name] = run_step(name, arguments, artifacts / "steps.log")
        for later, _ in plan[place + 1 :]:  # later steps are stale now
            done.pop(later, None)
        write_json(record, done)
    steps = [done[name] for name, _ in plan]

    own = recipe.stem == "cpu"
    target = ROOT / ("benchmarks/RESULTS.md" if own else f"benchmarks/RESULTS-{recipe.stem}.md")
    others = f"\n{kept(target, 'extra')}\n\n{marked('speed', speed())}\n" if own else ""  # of other benchmarks
    target.write_text(render(artifacts, output, steps, recipe) + others)
    if own:
        into(ROOT / "README.md", "results", summary(artifacts, output, steps, recipe))
    click.echo(target)


if __name__ == "__main__":
    main()
