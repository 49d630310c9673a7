"""Train every published system and Facecade on the same people, folds and operations; write benchmarks/COMPARISON.md
and the README's comparison.

    python benchmarks/comparison.py ../shared/data/faces

Three commands of `cli.py`, which go on where they were cut: the comparison, with the published recipes from ImageNet; the same with all of
them from faces; and one of the best with every network trained more than once and averaged. Scores are read from what they left; nothing here is typed in.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from steps import ROOT, commit, into, machine, run_step

sys.path.insert(0, str(ROOT))
from base.artifact import write_json
from report.leaderboard import page, summary

OWN = Path("recipes/quick.toml")
"""The cascade for about this budget: cpu.toml, scaled to it, would give each of its networks next to nothing."""

RIVALS = ("joint", "b4-cutmix", "b7-focal", "cascade-b3", "inception-newfocal", "resnet34-soft")
"""Of recipes/published: one network of all tasks, and the five systems that were published."""

AVERAGED = ("joint", "inception-newfocal")
"""Those that are compared with Facecade once more, with averaged networks: the nearest in the first comparison."""

FACES = Path("recipes/budgets/faces.toml")
"""The same budget with all recipes from the network that Facecade's recipe starts from."""

FOLDS, REPEATS = 3, 2


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--budget", type=click.Path(path_type=Path), default=Path("recipes/budgets/cpu.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/compare"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/compare"), show_default=True)
def main(data: Path, budget: Path, artifacts: Path, output: Path) -> None:
    """Compare on DATA (with train/ and eval/); write benchmarks/COMPARISON.md."""
    record = artifacts / "calls.json"  # a comparison takes hours, and may be cut and called again
    calls: list[dict[str, str]] = json.loads(record.read_text()) if record.exists() else []
    calls.append({"commit": commit(), "machine": machine()})
    write_json(record, calls)
    labels = data / "eval/eval_labels.csv"
    terms = ["--data", str(data / "train"), "--eval", str(data / "eval"), "--labels", str(labels)]
    terms += ["--folds", str(FOLDS)]
    at_faces, terms = [*terms, "--budget", str(FACES)], [*terms, "--budget", str(budget)]

    result, command = _compare(RIVALS, terms, artifacts, output)
    known, output_known = artifacts.with_name(f"{artifacts.name}-faces"), output.with_name(f"{output.name}-faces")
    _share(artifacts, known, (OWN.stem,))
    faces = _compare(RIVALS, at_faces, known, output_known)
    again, output_again = artifacts.with_name(f"{artifacts.name}-averaged"), output.with_name(f"{output.name}-averaged")
    _share(artifacts, again, (OWN.stem, *AVERAGED))
    averaged = _compare(AVERAGED, [*terms, "--repeats", str(REPEATS)], again, output_again)

    target = ROOT / "benchmarks/COMPARISON.md"
    target.write_text(page(result, OWN.stem, command, calls, averaged, faces))
    twice = f"With every network {REPEATS} times, averaged:\n{summary(averaged[0], OWN.stem)}"
    into(ROOT / "README.md", "comparison", f"{summary(result, OWN.stem)}\n\n{twice}")
    click.echo(target)


def _share(artifacts: Path, other: Path, names: tuple[str, ...]) -> None:
    """Give another comparison the fits of some recipes, which it would train just so, and the crops."""
    for name in (*names, "cache"):
        if not (other / name).exists():
            shutil.copytree(artifacts / name, other / name, ignore=shutil.ignore_patterns("combiner", "eval"))


def _compare(rivals: tuple[str, ...], terms: list[str], artifacts: Path, output: Path) -> tuple[dict[str, Any], str]:
    """A comparison's result, and the command that made it."""
    recipes = [str(OWN), *(f"recipes/published/{name}.toml" for name in rivals)]
    command = ["compare", *recipes, *terms, "--artifacts", str(artifacts), "--output", str(output)]
    run_step("compare", command, artifacts / "steps.log")
    return json.loads((output / "leaderboard.json").read_text()), "python cli.py " + " ".join(command)


if __name__ == "__main__":
    main()
