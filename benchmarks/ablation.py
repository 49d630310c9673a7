"""Ablation: nested scores of a fitted run's soft vote with and without each stage, and with the stages of other runs; write
benchmarks/ABLATION.md.

    python benchmarks/ablation.py artifacts
    python benchmarks/ablation.py artifacts/compare/imagenet/quick --beside artifacts/compare/imagenet/b4-cutmix --page ABLATION-quick.md

No network is trained: the soft vote is fitted again on the out-of-fold outputs of fewer stages, or of more.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_text
from facecade.combiner.estimators import SoftVote
from facecade.combiner.nested import Candidate, nested
from facecade.combiner.stage_outputs import StageOutputs, missing_targets
from facecade.faces.table import classes
from facecade.recipe import kind_of
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.results import table
from facecade.report.text import difference, interval
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run, open_run


@click.command()
@click.argument("artifacts", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A run on the same images and folds, whose stages are added.",
)
@click.option("--page", "name", default="ABLATION.md", show_default=True, help="File in benchmarks/ to write.")
def main(artifacts: Path, beside: tuple[Path, ...], name: str) -> None:
    """Score the soft vote of the run in ARTIFACTS without each stage, with each network of all targets alone, and with those of other
    runs."""
    run = open_run(artifacts)
    own = out_of_fold_outputs(run)
    sets = _sets(own, list(run.recipe.stages))
    others = [
        other.relative_to(artifacts.parent) if other.is_relative_to(artifacts.parent) else other for other in beside
    ]
    for folder, label in zip(beside, others, strict=True):
        added = _same_rows(run, open_run(folder))
        sets |= {f"`{stage}` of {label} alone": added.select([stage]) for stage in added.logits}
        sets[f"all stages and those of {label}"] = _joined(own, added)
    words = " ".join(["python benchmarks/ablation.py", str(artifacts), *(f"--beside {each}" for each in beside)])
    words += f" --page {name}" if name != "ABLATION.md" else ""
    write_text(ROOT / "benchmarks" / name, page(words, run, sets))
    click.echo(f"benchmarks/{name}")


def _sets(own: StageOutputs, stages: list[str]) -> dict[str, StageOutputs]:
    """The outputs that are scored, by the row's name; the first is of all stages."""
    names = {"all stages": stages}
    names |= {f"without `{name}`": [other for other in stages if other != name] for name in stages}
    ages = [name for name in stages if name.startswith("age-")]
    names |= {"without both age regressors": [name for name in stages if name not in ages]} if len(ages) == 2 else {}
    names |= {f"`{name}` alone": [name] for name in stages}
    return {row: own.select(kept) for row, kept in names.items() if not missing_targets(kept)}


def _same_rows(run: Run, other: Run) -> StageOutputs:
    """The outputs of another run for the rows of this one."""
    columns = ["path", "person", "fold", "content"]
    if not run.table[columns].equals(other.table[columns]):
        raise click.ClickException(f"{other.folder} has other images or folds than {run.folder}")
    return out_of_fold_outputs(other)


def _joined(own: StageOutputs, added: StageOutputs) -> StageOutputs:
    """The outputs of two runs; where both have a stage of a name, that of the other one gets the next free number."""
    names: dict[str, str] = {}
    for stage in added.logits:
        free = (f"{kind_of(stage)}-{number}" for number in range(2, 100))
        taken = {*own.logits, *names.values()}
        names[stage] = stage if stage not in taken else next(name for name in free if name not in taken)

    def joined(mine: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
        return {**mine, **{names[stage]: value for stage, value in others.items()}}

    return StageOutputs(
        joined(own.logits, added.logits),
        joined(own.columns, added.columns),
        joined(own.embedding, added.embedding),
    )


def page(command: str, run: Run, sets: Mapping[str, StageOutputs]) -> str:
    """The page. sets: outputs by the row's name, the first of all stages."""
    label, person = classes(run.table), run.table["person"].to_numpy()
    age, fold = run.table["age"].to_numpy(float), run.table["fold"].to_numpy()
    rows: list[list[str]] = []
    all_stages = np.empty(0)
    for name, selected in sets.items():
        prediction = nested(Candidate(SoftVote.fit, selected), label, fold)[False].prediction
        all_stages = all_stages if len(all_stages) else prediction
        scores = as_json(score(label, prediction, person, age, selected.age()))
        gap = difference(paired_difference(label, prediction, all_stages, person).json()) if rows else ""
        cells = [interval(scores[key]) for key in ("macro-F1", "gender accuracy", "band accuracy")]
        years = interval(scores["age MAE"], 2) if "age MAE" in scores else "-"
        rows.append([name, *cells, years, gap])
    networks = table(
        ["stage", "backbone", "initial weights", "size", "trained part"],
        [
            [
                f"`{name}`",
                stage.backbone,
                stage.weights,
                "×".join(map(str, stage.size)),
                "head" if stage.freeze == "all" else "all",
            ]
            for name, stage in run.recipe.stages.items()
        ],
    )
    return f"""# What each stage contributes

Machine: {machine()}. Commit: {commit()}. Written by `{command}`. {len(label)} images of {len(set(person))} people.

Nested scores of the soft vote on the stages' out-of-fold outputs, with 95 % intervals by bootstrap over people. The
last column is the difference to the first row, paired by person. No stage was trained again.

{table(["stages", "macro-F1", "gender accuracy", "band accuracy", "age MAE", "macro-F1 against all stages"], rows)}

{networks}
"""


if __name__ == "__main__":
    main()
