"""What each stage of a fitted run is worth: nested scores of the soft vote with and without it; write benchmarks/ABLATION.md.

    python benchmarks/ablation.py artifacts

Nothing is trained anew: the stages' out-of-fold outputs are voted on again, fewer of them each time.
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
from facecade.pipeline import out_of_fold_outputs
from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.results import table
from facecade.report.text import difference, interval
from facecade.runs.run import Run, open_run


@click.command()
@click.argument("artifacts", type=click.Path(path_type=Path, exists=True))
def main(artifacts: Path) -> None:
    """Vote without each stage of the run in ARTIFACTS, and with each network of all tasks alone."""
    run = open_run(artifacts)
    stage_outputs = out_of_fold_outputs(run)
    stages = list(stage_outputs.logits)
    sets = {"all stages": stages}
    sets |= {f"without `{name}`": [other for other in stages if other != name] for name in stages}
    ages = [name for name in stages if name.startswith("age-")]
    sets |= {"without both regressors of age": [name for name in stages if name not in ages]} if len(ages) == 2 else {}
    sets |= {f"`{name}` alone": [name] for name in stages if not missing_targets([name])}
    write_text(ROOT / "benchmarks/ABLATION.md", page(artifacts, run, stage_outputs, sets))
    click.echo("benchmarks/ABLATION.md")


def page(artifacts: Path, run: Run, stage_outputs: StageOutputs, sets: dict[str, list[str]]) -> str:
    label, person = classes(run.table), run.table["person"].to_numpy()
    age, fold = run.table["age"].to_numpy(float), run.table["fold"].to_numpy()
    rows, whole = [], np.empty(0)
    for name, kept in sets.items():
        if missing_targets(kept):
            continue
        few = stage_outputs.select(kept)
        answer = nested(Candidate(SoftVote.fit, few), label, fold)[False].prediction
        whole = whole if len(whole) else answer
        said = as_json(score(label, answer, person, age, few.age()))
        gap = paired_difference(label, answer, whole, person).json() if rows else None
        behind = difference(gap) if gap else ""
        cells = [interval(said[key]) for key in ("macro-F1", "gender accuracy", "band accuracy")]
        rows.append([name, *cells, interval(said["age MAE"], 2), behind])
    networks = table(
        ["stage", "backbone", "starts from", "size", "what learns"],
        [
            [
                f"`{name}`",
                stage.backbone,
                stage.weights,
                "×".join(map(str, stage.size)),
                "its head" if stage.freeze == "all" else "all",
            ]
            for name, stage in run.recipe.stages.items()
        ],
    )
    return f"""# What each stage is worth

Machine: {machine()}. Commit: {commit()}. Written by `python benchmarks/ablation.py {artifacts}`. {len(label)} images of {len(set(person))} people.

Nested scores of the soft vote on the stages' out-of-fold outputs, with 95 % intervals by bootstrap over people; the last column is paired with
the first row. No stage was trained anew.

{table(["stages", "macro-F1", "gender accuracy", "band accuracy", "age MAE", "macro-F1 over all stages"], rows)}

{networks}
"""


if __name__ == "__main__":
    main()
