"""Train every published system and Facecade on the same people, folds and operations; write benchmarks/COMPARISON.md
and the README's comparison.

    python benchmarks/comparison.py ../shared/data/faces

One command of `cli.py`, which goes on where it was cut. Scores are read from what it left; nothing here is typed in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from steps import ROOT, commit, into_readme, machine, run_step

sys.path.insert(0, str(ROOT))
from base.artifact import write_json
from report.leaderboard import page, summary

OWN = Path("recipes/quick.toml")
"""The cascade for about this budget: cpu.toml, scaled to it, would give each of its networks next to nothing."""

RIVALS = ("joint", "b4-cutmix", "b7-focal", "cascade-b3", "inception-newfocal", "resnet34-soft")
"""Of recipes/published: one network of all tasks, and the five systems that were published."""

FOLDS = 3


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--budget", type=click.Path(path_type=Path), default=Path("recipes/budgets/cpu.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/compare"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/compare"), show_default=True)
def main(data: Path, budget: Path, artifacts: Path, output: Path) -> None:
    """Compare on DATA (with train/ and eval/); write benchmarks/COMPARISON.md."""
    recipes = [str(OWN), *(f"recipes/published/{name}.toml" for name in RIVALS)]
    scored = ["--eval", str(data / "eval"), "--labels", str(data / "eval/eval_labels.csv")]
    where = ["--budget", str(budget), "--folds", str(FOLDS), "--artifacts", str(artifacts), "--output", str(output)]
    command = ["compare", *recipes, "--data", str(data / "train"), *scored, *where]
    record = artifacts / "calls.json"  # a comparison takes hours, and may be cut and called again
    calls: list[dict[str, str]] = json.loads(record.read_text()) if record.exists() else []
    calls.append({"commit": commit(), "machine": machine()})
    write_json(record, calls)
    run_step("compare", command, artifacts / "steps.log")
    result = json.loads((output / "leaderboard.json").read_text())
    target = ROOT / "benchmarks/COMPARISON.md"
    target.write_text(page(result, OWN.stem, "python cli.py " + " ".join(command), calls))
    into_readme("comparison", summary(result, OWN.stem))
    click.echo(target)


if __name__ == "__main__":
    main()
