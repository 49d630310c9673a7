"""A results page in Markdown, from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.artifact import read_record
from facecade.faces.labels import BANDS, MASKS, class_name, decode, encode
from facecade.records import FitRecord, read_combiner_record
from facecade.report.evaluate import Evaluation
from facecade.report.metrics import confusion, f1_per_class, macro_f1, score
from facecade.report.nested import NestedPredictions
from facecade.report.text import difference, interval

SCORES = ("macro-F1", "accuracy", "mask accuracy", "gender accuracy", "band accuracy", "age MAE")
SCORES_IN_YEARS = ("age MAE", "age error")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score_interval(score: str, value: Mapping[str, float], digits: int = 4) -> str:
    """A score with its 95 % interval; scores in years have two digits."""
    return interval(value, 2 if score in SCORES_IN_YEARS else digits)


def render(artifacts: Path, output: Path, steps: Sequence[dict[str, Any]], recipe: Path) -> str:
    """The page: the steps, the scores, and what each part contributes.

    Args:
        artifacts, output: folders of the run and of its `infer` and `evaluate`.
        steps: the commands that were run: step, command, seconds, peak_mib, commit, machine.
    """
    nested, evaluation = NestedPredictions.read(artifacts), read_record(output / "evaluation.json", Evaluation)
    combiner = nested.combiner
    choice, scored = combiner.nested_choice, evaluation.score
    total = sum(step["seconds"] for step in steps)
    commits = ", ".join(sorted({step["commit"] for step in steps}))
    fits = sum(step["seconds"] for step in steps if step["step"].startswith("fit-"))
    digits = {"age MAE": 2}
    score_rows = [
        [
            name,
            interval(choice[name], digits.get(name, 4)),
            interval(scored[name], digits.get(name, 4)) if name in scored else "-",
            _overlap(choice[name], scored[name]) if name in scored else "-",
        ]
        for name in SCORES
    ]
    methods = [
        [
            ("**" + name + "**") if name == combiner.method else name,
            interval(score["macro-F1"]),
            interval(score["accuracy"]),
        ]
        for name, score in combiner.nested.items()
    ]
    classes = [
        [str(label), class_name(label), _f1(nested_f1), _f1(eval_f1), str(count)]
        for label, (nested_f1, eval_f1, count) in enumerate(
            zip(combiner.per_class_f1, evaluation.per_class_f1, evaluation.per_class_count, strict=True)
        )
    ]
    gain = combiner.gain_over_simplest
    return "\n".join(
        [
            f"# Results of `{recipe}` on real images",
            "",
            f"Machine: {steps[0]['machine']}. Commit: {commits}. Written by `python benchmarks/results.py`;",
            "every number is read from the run's artifacts. Intervals are 95 %, by bootstrap over people.",
            "",
            "## Steps",
            "",
            table(
                ["step", "command", "wall time", "peak memory"],
                [[s["step"], f"`{s['command']}`", _minutes(s["seconds"]), f"{s['peak_mib']} MiB"] for s in steps],
            ),
            "",
            f"Fitting (stages and combiner): **{_minutes(fits)}**; all steps: **{_minutes(total)}**.",
            "",
            "## Scores",
            "",
            "*Nested* is computed without the eval set: stages, cuts, combiner, decision weights and the choice",
            f"among the methods below are all fitted without the people scored. *Eval* is {evaluation.images} images of",
            f"{evaluation.people} people that were never used for training or selection.",
            "",
            table(["score", "nested out-of-fold", "eval", "intervals overlap"], score_rows),
            "",
            *swapped_files_text(nested),
            "## Combining methods, and what the embeddings gain",
            "",
            "Nested macro-F1 and accuracy on the same rows; the run's method in bold. *Raw* embeddings are in each fold's own",
            "basis, *aligned* ones are rotated to fold 0 (orthogonal Procrustes).",
            "",
            table(["method", "macro-F1", "accuracy"], methods),
            "",
            f"The run's method is ahead of “{combiner.simplest}” by {difference(gain)} macro-F1 (paired).",
            "",
            "## Stages, on the people each fold held out",
            "",
            _stages(nested.fits),
            "",
            "Cuts in years, fitted out of fold: "
            + "; ".join(f"{name} {low:.2f} and {high:.2f}" for name, (low, high) in combiner.cuts.items())
            + ".",
            "",
            "## F1 of each class",
            "",
            table(["class", "meaning", "nested", "eval", "images in eval"], classes),
            "",
            "## What limits the score",
            "",
            limits_text(nested),
            "",
        ]
    )


def swapped_files_text(nested: NestedPredictions) -> list[str]:
    """Lines on people whose `incorrect` and `normal` images are each predicted as the other.

    One such prediction is a model's error; two of one held-out person mean that the files were swapped.
    Swapped files lower the nested score, but are not errors of the models.
    """
    person, true, predicted = nested.person, decode(nested.label)[0], decode(nested.prediction)[0]
    incorrect, normal = MASKS.index("incorrect"), MASKS.index("normal")
    as_normal = (true == incorrect) & (predicted == normal)
    as_incorrect = (true == normal) & (predicted == incorrect)
    people = sorted(set(person[as_normal]) & set(person[as_incorrect]))
    if not people:
        return []
    others = ~np.isin(person, people)
    without = score(nested.label[others], nested.prediction[others], person[others])["mask accuracy"]
    return [
        f"Of {len(people)} people both the image labelled *incorrect* and the one labelled *normal* are predicted as the other,",
        "by models that held them out: their files are most likely swapped. Without these people nested mask accuracy is",
        f"{interval(without.json())}.",
        "",
    ]


def limits_text(nested: NestedPredictions) -> str:
    """Three sentences on what limits the score, measured on the nested predictions."""
    label, prediction = nested.label, nested.prediction
    true, predicted = decode(label), decode(prediction)
    current = float(macro_f1(confusion(label, prediction)))
    without_errors = []  # macro-F1 if one axis were always right
    for axis in range(3):
        mixed = [true[each] if each == axis else predicted[each] for each in range(3)]
        without_errors.append(float(macro_f1(confusion(label, encode(*mixed)))))
    worst = ("mask", "gender", "age band")[int(np.argmax(without_errors))]
    f1 = f1_per_class(confusion(label, prediction))
    by_band = {name: f1[band::3] for band, name in enumerate(BANDS)}
    of_bands = [f"{np.nanmean(values):.3f} at {name}" for name, values in by_band.items() if not np.isnan(values).all()]
    wrong = pd.Series(true[2] != predicted[2]).groupby(nested.person)
    mostly_wrong = (wrong.mean() > 0.5).to_numpy()
    share = float(wrong.sum()[mostly_wrong].sum() / max(1, wrong.sum().sum()))
    return (
        f"The {worst} limits it most: nested macro-F1 is {current:.3f}, and would be {without_errors[2]:.3f} if the age band were always "
        f"right, {without_errors[1]:.3f} if gender were, {without_errors[0]:.3f} if the mask were. "
        f"Mean F1 of the classes is "
        + ", ".join(of_bands)
        + f"; bands have sharp edges. {share:.0%} of the wrong bands belong to the {mostly_wrong.mean():.0%} of people whose band is wrong"
        f" in most of their images.{_age_error_text(nested)}"
    )


def _age_error_text(nested: NestedPredictions) -> str:
    """A sentence on the error of the predicted ages; empty if no stage predicts years."""
    if np.isnan(nested.years).any():
        return ""
    error, mask = np.abs(nested.years - nested.age), decode(nested.label)[0]
    worn, without = (error[mask == MASKS.index(state)] for state in ("wear", "normal"))
    by_mask = (
        f": {worn.mean():.1f} under a worn mask, {without.mean():.1f} without one" if len(worn) and len(without) else ""
    )
    return f" The mean error of the predicted age is {error.mean():.1f} years{by_mask}."


def summary(artifacts: Path, output: Path, steps: Sequence[dict[str, Any]], recipe: Path) -> str:
    """The main results for the README."""
    combiner, evaluation = (
        read_combiner_record(artifacts / "combiner"),
        read_record(output / "evaluation.json", Evaluation),
    )
    nested, scored = combiner.nested_choice, evaluation.score
    fits = sum(step["seconds"] for step in steps if step["step"].startswith("fit-"))
    rows = [
        [
            name,
            interval(nested[name], 2 if name == "age MAE" else 3),
            interval(scored[name], 2 if name == "age MAE" else 3),
        ]
        for name in SCORES
    ]
    simplest = combiner.nested[combiner.simplest]["macro-F1"]
    return "\n".join(
        [
            f"`{recipe}` on {combiner.images:,} images of {combiner.people:,} real people, fitted in {_minutes(fits)} on {steps[0]['machine']};",
            f"evaluated on {evaluation.images} images of {evaluation.people} other people. 95 % intervals over people.",
            "",
            table(["score", "nested out-of-fold", "eval"], rows),
            "",
            agreement_text(nested, scored),
            f"Selected combining method: {combiner.method}. The simplest method, “{combiner.simplest}”, has a nested macro-F1 of {interval(simplest, 3)}.",
            "All results and steps: `benchmarks/RESULTS.md`.",
        ]
    )


def _stages(fits: Sequence[FitRecord]) -> str:
    return table(
        ["stage", "fold", "starts from", "backbone", "size", "score", "training time"],
        [
            [
                fit.stage,
                str(fit.fold),
                fit.recipe.weights,
                fit.recipe.backbone,
                "×".join(map(str, fit.recipe.size)),
                ", ".join(f"{name} {value:.4f}" for name, value in fit.score.items()),
                _minutes(fit.seconds),
            ]
            for fit in fits
        ],
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _f1(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def agreement_text(nested: Mapping[str, dict[str, float]], scored: Mapping[str, dict[str, float]]) -> str:
    """Whether the nested scores were a good estimate of the scores on eval."""
    apart = [name for name in SCORES if _overlap(nested[name], scored[name]) != "yes"]
    if apart:
        return f"The nested {', '.join(apart)} differs from eval: the intervals do not overlap."
    return "Every nested interval overlaps with the one on eval: the nested scores agree with those on new people."


def _overlap(first: dict[str, float], second: dict[str, float]) -> str:
    return "yes" if first["low"] <= second["high"] and second["low"] <= first["high"] else "**no**"
