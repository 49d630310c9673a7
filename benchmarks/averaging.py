"""What averaging the folds' networks gains, for each network of all targets and for all stages together; write
benchmarks/AVERAGING.md.

    python benchmarks/averaging.py artifacts ../shared/data/faces/eval ../shared/data/faces/eval/eval_labels.csv

People of a fold are predicted by that fold's networks, new people by the mean of all folds' networks. Nested scores
cannot show the difference, so it is measured on people that no network was trained on. Nothing is trained, and these
scores choose nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_text
from facecade.base.machine import Machine
from facecade.combiner.decision import NO_WEIGHTS, decide
from facecade.combiner.estimators import SoftVote
from facecade.combiner.nested import Candidate, nested
from facecade.combiner.stage_outputs import StageOutputs, average_folds, concatenate, missing_targets
from facecade.faces.source import read_source
from facecade.faces.table import classes
from facecade.inference.loading import cascade_of_run
from facecade.inference.stream import stream
from facecade.report.evaluate import read_labels
from facecade.report.metrics import Interval, bootstrap_interval, confusion, macro_f1, macro_f1_draws
from facecade.report.results import table
from facecade.report.text import difference
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run, open_run


@click.command()
@click.argument("artifacts", type=click.Path(path_type=Path, exists=True))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("labels", type=click.Path(path_type=Path, exists=True))
def main(artifacts: Path, data: Path, labels: Path) -> None:
    """Predict DATA with each fold's networks of the run in ARTIFACTS, and score them by LABELS."""
    run = open_run(artifacts)
    held_out = out_of_fold_outputs(run)
    names = list(held_out.logits)
    networks = [name for name in names if not missing_targets([name])]
    sets = {f"`{name}` alone": [name] for name in networks}
    sets |= {"these networks together": networks} if len(networks) > 1 else {}
    sets |= {"all stages": names} if networks != names else {}
    new = Images.read(run, data, labels)
    write_text(ROOT / "benchmarks/AVERAGING.md", page(artifacts, run, held_out, new, sets))
    click.echo("benchmarks/AVERAGING.md")


@dataclass(frozen=True)
class Images:
    """N images of people that no network was trained on: each fold's stage outputs, classes (N,) and people (N,)."""

    folds: Sequence[StageOutputs]
    label: np.ndarray
    person: np.ndarray

    @classmethod
    def read(cls, run: Run, data: Path, labels: Path) -> Images:
        source, machine = read_source(data), Machine()
        cascade = cascade_of_run(run, machine, len(source.table))
        paths = [source.root / path for path in source.table["path"]]
        batches = list(stream(paths, cascade.face_reader, cascade.ensemble, machine.workers))
        readable = np.concatenate([batch.readable for batch in batches])
        truth = read_labels(labels).loc[np.array(source.image_ids)[readable]]
        folds = [concatenate([batch.stage_outputs[fold] for batch in batches]) for fold in batches[0].stage_outputs]
        return cls(folds, truth["ans"].to_numpy(), truth["person"].to_numpy())


def page(artifacts: Path, run: Run, held_out: StageOutputs, new: Images, sets: Mapping[str, Sequence[str]]) -> str:
    """benchmarks/AVERAGING.md."""
    label, fold = classes(run.table), run.table["fold"].to_numpy()
    rows = []
    for name, stages in sets.items():
        stage_outputs, folds = held_out.select(stages), [each.select(stages) for each in new.folds]
        nested_scores = nested(Candidate(SoftVote.fit, stage_outputs), label, fold)[False]
        vote = SoftVote.fit(stage_outputs, label)
        single = [vote.probability(each) for each in folds]
        logits = vote.probability(average_folds(folds))
        probabilities = np.mean(single, axis=0)
        rows.append(
            [
                name,
                f"{_f1(label, nested_scores.probability):.3f}",
                f"{_log_loss(label, nested_scores.probability):.3f}",
                f"{np.mean([_f1(new.label, each) for each in single]):.3f}",
                f"{np.mean([_log_loss(new.label, each) for each in single]):.3f}",
                f"{_f1(new.label, logits):.3f}",
                f"{_log_loss(new.label, logits):.3f}",
                difference(_gain(new, logits, single).json(), 3),
                f"{_f1(new.label, probabilities):.3f}",
                f"{_log_loss(new.label, probabilities):.3f}",
                f"{np.mean([_temperature(new.label, each) for each in single]):.2f}",
                f"{_temperature(new.label, logits):.2f}",
            ]
        )
    head = [
        "stages",
        "nested macro-F1",
        "log-loss",
        "one fold: macro-F1",
        "log-loss",
        "folds' logits averaged: macro-F1",
    ]
    head += ["log-loss", "macro-F1 against one fold", "folds' probabilities averaged: macro-F1", "log-loss"]
    head += ["best temperature of one fold", "of the average"]
    return f"""# What averaging the folds' networks gains

Machine: {machine()}. Commit: {commit()}. Written by `python benchmarks/averaging.py {artifacts} DATA LABELS`. Nested: {len(label)}
images of {len(set(run.table["person"]))} people, each predicted by the networks of one fold. The other columns: {len(new.label)} images of {len(set(new.person))} people that
no network was trained on, predicted by the networks of one fold (mean of {len(new.folds)} folds' scores) and by those of all folds. The
method is the soft vote, fitted on out-of-fold logits. Nothing was trained again, and nothing was selected by these scores. The interval
is 95 %, by bootstrap over people. A temperature below 1 means that the probabilities should be sharper than they are.

{table(head, rows)}

Averaging removes random errors of networks. A single network has many of them and gains most. In a vote of several networks,
many of these errors are already averaged out, also with the networks of one fold. So nested scores count as a gain of more networks
what new people would get from the folds anyway. All rows use the same method, so the method is not the reason why a cascade of several networks
gains less. One temperature for all classes changes no prediction here: the largest probability stays the largest.
"""


def _f1(label: np.ndarray, probability: np.ndarray) -> float:
    return float(macro_f1(confusion(label, decide(probability, NO_WEIGHTS))))


def _log_loss(label: np.ndarray, probability: np.ndarray, temperature: float = 1.0) -> float:
    log_p = log_softmax(np.log(probability + 1e-12) / temperature, axis=1)
    return float(-log_p[np.arange(len(label)), label].mean())


def _temperature(label: np.ndarray, probability: np.ndarray) -> float:
    """The temperature (Guo et al., arXiv:1706.04599) with the least log-loss."""
    found = minimize_scalar(lambda value: _log_loss(label, probability, value), bounds=(0.3, 3.0), method="bounded")
    return float(found.x)


def _gain(new: Images, average: np.ndarray, single: Sequence[np.ndarray]) -> Interval:
    """Macro-F1 of the average minus the mean of the single folds', on the same resampled people."""
    draws = [macro_f1_draws(new.label, decide(each, NO_WEIGHTS), new.person) for each in (average, *single)]
    value = _f1(new.label, average) - np.mean([_f1(new.label, each) for each in single])
    return bootstrap_interval(float(value), draws[0] - np.mean(draws[1:], axis=0))


if __name__ == "__main__":
    main()
