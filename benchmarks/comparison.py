"""Train every published system and Facecade on the same people, folds and operations; write benchmarks/COMPARISON.md
and the README's comparison.

    python benchmarks/comparison.py ../shared/data/faces

Four commands of `cli.py`, which resume where they were interrupted: the comparison, with the published recipes from
ImageNet weights; the same with all of them from weights trained on faces; and both again with the best published
recipes, every network trained more than once and averaged. All scores are read from the commands' files.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from steps import ROOT, commit, into, machine, run_step

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_text
from facecade.report.leaderboard import Comparison, best_published, page, summary

OWN = Path("recipes/quick.toml")
"""The cascade for about this budget: cpu.toml, scaled to it, would leave almost no training to each of its networks."""

RIVALS = ("joint", "b4-cutmix", "b7-focal", "cascade-b3", "inception-newfocal", "resnet34-soft")
"""Of recipes/published: one network of all targets, and the five published systems."""

FACE_BUDGET = Path("recipes/budgets/faces.toml")
"""The same budget, with the initial weights of Facecade's recipe for all recipes."""

FOLDS, REPEATS = 3, 2

NEAREST = 2
"""Published recipes that are compared again with averaged networks: those with the best scores as published."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--budget", type=click.Path(path_type=Path), default=Path("recipes/budgets/cpu.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/compare"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/compare"), show_default=True)
def main(data: Path, budget: Path, artifacts: Path, output: Path) -> None:
    """Compare on DATA (with train/ and eval/); write benchmarks/COMPARISON.md."""
    record = artifacts / "calls.json"  # a comparison takes hours, and may be interrupted and called again
    calls: list[dict[str, str]] = json.loads(record.read_text()) if record.exists() else []
    calls.append({"commit": commit(), "machine": machine()})
    write_text(record, json.dumps(calls, indent=2) + "\n")
    labels = data / "eval/eval_labels.csv"
    options = ["--data", str(data / "train"), "--eval", str(data / "eval"), "--labels", str(labels)]
    options += ["--folds", str(FOLDS), "--budget"]

    first = Part(artifacts, output)
    faces = first.named("faces")
    comparisons = [first.compare(RIVALS, [*options, str(budget)])]
    first.share(faces, [OWN.stem])
    comparisons.append(faces.compare(RIVALS, [*options, str(FACE_BUDGET)]))
    (of_first, _), (of_faces, _) = comparisons
    for part, used_budget, result in ((faces, FACE_BUDGET, of_faces), (first, budget, of_first)):
        rivals = best_published(result, OWN.stem, NEAREST)
        averaged = part.named("averaged")
        part.share(averaged, [OWN.stem, *rivals])
        comparisons.append(averaged.compare(rivals, [*options, str(used_budget), "--repeats", str(REPEATS)]))

    target = ROOT / "benchmarks/COMPARISON.md"
    target.write_text(page(comparisons, OWN.stem, calls))
    headings = [
        "",
        "The published recipes from Facecade's initial weights:",
        f"The same, with every network {REPEATS} times, averaged:",
    ]
    texts = [
        f"{heading}\n\n{summary(result, OWN.stem)}".strip()
        for heading, (result, _) in zip(headings, comparisons[:3], strict=True)
    ]
    into(ROOT / "README.md", "comparison", "\n\n".join(texts))
    click.echo(target)


@dataclass(frozen=True)
class Part:
    """One comparison of the page: the folders of its runs and of its output."""

    artifacts: Path
    output: Path

    def named(self, name: str) -> Part:
        return Part(*(path.with_name(f"{path.name}-{name}") for path in (self.artifacts, self.output)))

    def share(self, other: Part, recipes: Sequence[str]) -> None:
        """Copy the crops and the fits of some recipes to another comparison, which would train the same."""
        for name in (*recipes, "cache"):
            if not (other.artifacts / name).exists():
                ignored = shutil.ignore_patterns("combiner", "eval")
                shutil.copytree(self.artifacts / name, other.artifacts / name, ignore=ignored)

    def compare(self, rivals: Sequence[str], options: Sequence[str]) -> Comparison:
        """A comparison's result and its command."""
        recipes = [str(OWN), *(f"recipes/published/{name}.toml" for name in rivals)]
        folders = ["--artifacts", str(self.artifacts), "--output", str(self.output)]
        command = ["compare", *recipes, *options, *folders]
        run_step("compare", command, self.artifacts / "steps.log")
        return json.loads((self.output / "leaderboard.json").read_text()), "python cli.py " + " ".join(command)


if __name__ == "__main__":
    main()
