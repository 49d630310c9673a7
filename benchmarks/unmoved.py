"""Do systems still reach the scores of an earlier comparison? Train some of them again; write benchmarks/UNMOVED.md.

    python benchmarks/unmoved.py ../shared/data/faces --before ae3ea9d

The earlier scores are read from benchmarks/COMPARISON.md of that commit, the new ones from the output of one command of
`cli.py`, on the same people, folds and operations. An interrupted call resumes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from steps import ROOT, commit, machine, run_step
from tables import tables

sys.path.insert(0, str(ROOT))
from facecade.report.results import table
from facecade.report.text import interval

RECIPES = ("recipes/quick.toml", "recipes/published/joint.toml")
"""Facecade's own recipe, and the fastest of the others to train."""

SCORES = {
    "nested macro-F1": ("nested", "macro-F1", 3),
    "age MAE": ("nested", "age MAE", 2),
    "eval macro-F1": ("eval", "macro-F1", 3),
}
"""Columns of a comparison's table: the keys of the score in a row, and its digits."""


def scores(entry: Mapping[str, Any]) -> dict[str, str]:
    """A new row's scores, formatted as in the table."""
    return {
        column: interval(entry[where][name], digits) if name in entry[where] else "-"
        for column, (where, name, digits) in SCORES.items()
    }


def moved(before: str, after: str) -> str:
    """`no` where the new score lies within the old one's interval, else `yes`."""
    low, high = map(float, re.findall(r"[\d.]+", before.partition("[")[2]))
    return "no" if low <= float(after.split()[0]) <= high else "yes"


def page(before: Sequence[Mapping[str, str]], result: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """benchmarks/UNMOVED.md."""
    rows = []
    for entry in result["entries"]:
        old = [
            row
            for row in before
            if row["recipe"] == entry["recipe"]
            and row.get("method", row.get("answer", "")).partition(":")[0] == entry["kind"]
        ]
        for column, new in scores(entry).items():
            if new != "-":
                earlier = old[0][column]
                rows.append([entry["recipe"], entry["kind"], column, earlier, new, moved(earlier, new)])
    return f"""# Scores before and after the speed-ups

Machine: {about["machine"]}. Commit: {about["commit"]}. Written by `{about["command"]}`, which ran `{about["ran"]}`.

*Before* is `benchmarks/COMPARISON.md` of commit {about["before"]}. That was before inference became a stream, before other engines could run
networks, and before the training loop, its workers and frozen stages were made faster. *After* are the same systems, trained
again on the same {result["folds"]} folds by person with as many operations. Intervals are 95 %, by bootstrap over people.

{table(["recipe", "method", "score", "before", "after", "outside the interval"], rows)}
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--before", required=True, help="Commit of the earlier comparison.")
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/unmoved"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/unmoved"), show_default=True)
def main(data: Path, before: str, artifacts: Path, output: Path) -> None:
    """Compare on DATA (with train/ and eval/); write benchmarks/UNMOVED.md."""
    shown = subprocess.run(
        ["git", "show", f"{before}:benchmarks/COMPARISON.md"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    arguments = ["compare", *RECIPES, "--data", f"{data}/train", "--eval", f"{data}/eval"]
    arguments += ["--labels", f"{data}/eval/eval_labels.csv", "--budget", "recipes/budgets/cpu.toml", "--folds", "3"]
    step = run_step(
        "compare", [*arguments, "--artifacts", str(artifacts), "--output", str(output)], artifacts / "steps.log"
    )
    about = {
        "machine": machine(),
        "commit": commit(),
        "command": " ".join(["python benchmarks/unmoved.py", *sys.argv[1:]]),
        "ran": step["command"],
        "before": before,
    }
    target = ROOT / "benchmarks/UNMOVED.md"
    target.write_text(page(tables(shown.stdout)[0].rows, json.loads((output / "leaderboard.json").read_text()), about))
    click.echo(target)


if __name__ == "__main__":
    main()
