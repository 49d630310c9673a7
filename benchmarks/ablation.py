"""Ablation: nested scores of a fitted run's soft vote with and without each stage; write benchmarks/ABLATION.md.

    python benchmarks/ablation.py artifacts

No network is trained: the soft vote is fitted again on the out-of-fold outputs of fewer stages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_text
from facecade.combiner.estimators import SoftVote
from facecade.combiner.nested import Candidate, nested
from facecade.combiner.stage_outputs import StageOutputs, missing_targets
from facecade.faces.table import classes
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.results import table
from facecade.report.text import difference, interval
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run, open_run


@click.command()
@click.argument("artifacts", type=click.Path(path_type=Path, exists=True))
def main(artifacts: Path) -> None:
    """Score the soft vote of the run in ARTIFACTS without each stage, and with each network of all targets alone."""
    run = open_run(artifacts)
    stage_outputs = out_of_fold_outputs(run)
    stages = list(stage_outputs.logits)
    sets = {"all stages": stages}
    sets |= {f"without `{name}`": [other for other in stages if other != name] for name in stages}
    ages = [name for name in stages if name.startswith("age-")]
    sets |= {"without both age regressors": [name for name in stages if name not in ages]} if len(ages) == 2 else {}
    sets |= {f"`{name}` alone": [name] for name in stages if not missing_targets([name])}
    write_text(ROOT / "benchmarks/ABLATION.md", page(artifacts, run, stage_outputs, sets))
    click.echo("benchmarks/ABLATION.md")


def page(artifacts: Path, run: Run, stage_outputs: StageOutputs, sets: dict[str, list[str]]) -> str:
    """benchmarks/ABLATION.md."""
    label, person = classes(run.table), run.table["person"].to_numpy()
    age, fold = run.table["age"].to_numpy(float), run.table["fold"].to_numpy()
    rows: list[list[str]] = []
    all_stages = np.empty(0)
    for name, kept in sets.items():
        if missing_targets(kept):
            continue
        selected = stage_outputs.select(kept)
        prediction = nested(Candidate(SoftVote.fit, selected), label, fold)[False].prediction
        all_stages = all_stages if len(all_stages) else prediction
        scores = as_json(score(label, prediction, person, age, selected.age()))
        gap = difference(paired_difference(label, prediction, all_stages, person).json()) if rows else ""
        cells = [interval(scores[key]) for key in ("macro-F1", "gender accuracy", "band accuracy")]
        rows.append([name, *cells, interval(scores["age MAE"], 2), gap])
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

Machine: {machine()}. Commit: {commit()}. Written by `python benchmarks/ablation.py {artifacts}`. {len(label)} images of {len(set(person))} people.

Nested scores of the soft vote on the stages' out-of-fold outputs, with 95 % intervals by bootstrap over people. The
last column is the difference to the first row, paired by person. No stage was trained again.

{table(["stages", "macro-F1", "gender accuracy", "band accuracy", "age MAE", "macro-F1 against all stages"], rows)}

{networks}
"""


if __name__ == "__main__":
    main()
