"""Train every published system and Facecade on the same people, folds and operations; write benchmarks/COMPARISON.md
and the README's comparison.

    python benchmarks/comparison.py ../shared/data/faces

Four commands of `cli.py`, which go on where they were cut: the comparison, with the published recipes from ImageNet; the same with all of
them from faces; and both once more with the nearest, every network trained more than once and averaged. Scores are read from what they left; nothing here is typed in.
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
from facecade.base.artifact import write_json
from facecade.report.leaderboard import Comparison, nearest, page, summary

OWN = Path("recipes/quick.toml")
"""The cascade for about this budget: cpu.toml, scaled to it, would give each of its networks next to nothing."""

RIVALS = ("joint", "b4-cutmix", "b7-focal", "cascade-b3", "inception-newfocal", "resnet34-soft")
"""Of recipes/published: one network of all tasks, and the five systems that were published."""

FACES = Path("recipes/budgets/faces.toml")
"""The same budget with all recipes from the network that Facecade's recipe starts from."""

FOLDS, REPEATS = 3, 2

NEAREST = 2
"""Published recipes that are compared with Facecade once more, with averaged networks: those with the best answers without."""


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
    terms += ["--folds", str(FOLDS), "--budget"]

    first = Part(artifacts, output)
    faces = first.named("faces")
    comparisons = [first.compare(RIVALS, [*terms, str(budget)])]
    first.share(faces, [OWN.stem])
    comparisons.append(faces.compare(RIVALS, [*terms, str(FACES)]))
    (of_first, _), (of_faces, _) = comparisons
    for part, given, result in ((faces, FACES, of_faces), (first, budget, of_first)):
        rivals = nearest(result, OWN.stem, NEAREST)
        averaged = part.named("averaged")
        part.share(averaged, [OWN.stem, *rivals])
        comparisons.append(averaged.compare(rivals, [*terms, str(given), "--repeats", str(REPEATS)]))

    target = ROOT / "benchmarks/COMPARISON.md"
    target.write_text(page(comparisons, OWN.stem, calls))
    words = [
        "",
        "The published recipes from the network that Facecade starts from:",
        f"These, with every network {REPEATS} times, averaged:",
    ]
    texts = [
        f"{said}\n{summary(result, OWN.stem)}".strip() for said, (result, _) in zip(words, comparisons[:3], strict=True)
    ]
    into(ROOT / "README.md", "comparison", "\n\n".join(texts))
    click.echo(target)


@dataclass(frozen=True)
class Part:
    """A comparison of the page: where its runs are, and what it writes."""

    artifacts: Path
    output: Path

    def named(self, name: str) -> Part:
        return Part(*(path.with_name(f"{path.name}-{name}") for path in (self.artifacts, self.output)))

    def share(self, other: Part, recipes: Sequence[str]) -> None:
        """Give another comparison the fits of some recipes, which it would train just so, and the crops."""
        for name in (*recipes, "cache"):
            if not (other.artifacts / name).exists():
                ignored = shutil.ignore_patterns("combiner", "eval")
                shutil.copytree(self.artifacts / name, other.artifacts / name, ignore=ignored)

    def compare(self, rivals: Sequence[str], terms: Sequence[str]) -> Comparison:
        """A comparison's result, and the command that made it."""
        recipes = [str(OWN), *(f"recipes/published/{name}.toml" for name in rivals)]
        where = ["--artifacts", str(self.artifacts), "--output", str(self.output)]
        command = ["compare", *recipes, *terms, *where]
        run_step("compare", command, self.artifacts / "steps.log")
        return json.loads((self.output / "leaderboard.json").read_text()), "python cli.py " + " ".join(command)


if __name__ == "__main__":
    main()
