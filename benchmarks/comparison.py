"""Train every published system and Facecade on the same people, folds and operations; write benchmarks/COMPARISON.md
and the README's comparison.

    python benchmarks/comparison.py ../shared/data/faces

Four commands of `cli.py`, which resume where they were interrupted: the comparison, with the published recipes from
ImageNet weights; the same with all of them from weights trained on faces; and both again with the best published
recipes, every network trained more than once and averaged. All scores are read from the commands' files.

A comparison that is finished is kept in benchmarks/comparison/, and not run again while its file is there.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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

BUDGET = Path("recipes/budgets/cpu.toml")

FACE_BUDGET = Path("recipes/budgets/faces.toml")
"""The same budget, with the initial weights of Facecade's recipe for all recipes."""

FOLDS, REPEATS = 3, 2

NEAREST = 2
"""Published recipes that are compared again with averaged networks: those with the best scores as published."""

MEASURED = ROOT / "benchmarks/comparison"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/compare"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/compare"), show_default=True)
def main(data: Path, artifacts: Path, output: Path) -> None:
    """Compare on DATA (with train/ and eval/); write benchmarks/COMPARISON.md."""
    labels = data / "eval/eval_labels.csv"
    options = ["--data", str(data / "train"), "--eval", str(data / "eval"), "--labels", str(labels)]
    options += ["--folds", str(FOLDS)]
    imagenet = Part("imagenet", artifacts, output, [*options, "--budget", str(BUDGET)])
    faces = Part("faces", artifacts, output, [*options, "--budget", str(FACE_BUDGET)])
    comparisons = [imagenet.compare(RIVALS)]
    write_page(comparisons)
    imagenet.share(faces, [OWN.stem])
    comparisons.append(faces.compare(RIVALS))
    write_page(comparisons)
    for part, comparison in ((faces, comparisons[1]), (imagenet, comparisons[0])):
        rivals = best_published(comparison.result, OWN.stem, NEAREST)
        averaged = part.averaged()
        faces.averaged().share(averaged, [OWN.stem])
        part.share(averaged, [OWN.stem, *rivals])
        comparisons.append(averaged.compare(rivals))
        write_page(comparisons)


def write_page(comparisons: Sequence[Comparison]) -> None:
    """The page of the comparisons that are finished, and the README's summary of them."""
    target = ROOT / "benchmarks/COMPARISON.md"
    target.write_text(page(comparisons, OWN.stem))
    headings = [
        "",
        "The published recipes from Facecade's initial weights:",
        f"The same, with every network {REPEATS} times, averaged:",
    ]
    texts = [
        f"{heading}\n\n{summary(each.result, OWN.stem)}".strip()
        for heading, each in zip(headings, comparisons, strict=False)
    ]
    into(ROOT / "README.md", "comparison", "\n\n".join(texts))
    click.echo(target)


@dataclass(frozen=True)
class Part:
    """One comparison of the page. artifacts, output: folders of all parts; each has its own below. options: of `compare`."""

    name: str
    artifacts: Path
    output: Path
    options: list[str]

    def averaged(self) -> Part:
        """The same comparison with every network more than once."""
        return Part(f"{self.name}-averaged", self.artifacts, self.output, [*self.options, "--repeats", str(REPEATS)])

    def share(self, other: Part, recipes: Sequence[str]) -> None:
        """Copy the crops and the fits of some recipes to another comparison, which would train the same."""
        for name in (*recipes, "cache"):
            source, target = (part.artifacts / part.name / name for part in (self, other))
            if source.exists() and not target.exists():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("combiner", "eval"))

    def compare(self, rivals: Sequence[str]) -> Comparison:
        """The comparison: measured, or as it was measured before."""
        file = MEASURED / f"{self.name}.json"
        if not file.exists():
            folder, output = self.artifacts / self.name, self.output / self.name
            record = folder / "commits"  # a comparison takes hours, and may be interrupted and called again
            commits = record.read_text().split() if record.exists() else []
            commits = list(dict.fromkeys([*commits, commit()]))
            write_text(record, "\n".join(commits))
            recipes = [str(OWN), *(f"recipes/published/{name}.toml" for name in rivals)]
            command = ["compare", *recipes, *self.options, "--artifacts", str(folder), "--output", str(output)]
            run_step("compare", command, folder / "steps.log")
            result = json.loads((output / "leaderboard.json").read_text())
            comparison = Comparison(result, "python cli.py " + " ".join(command), commits, machine())
            write_text(file, json.dumps(asdict(comparison), indent=1) + "\n")
        return Comparison(**json.loads(file.read_text()))


if __name__ == "__main__":
    main()
