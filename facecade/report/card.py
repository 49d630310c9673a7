"""The model card: what a fitted cascade is for, how it was trained, and for whom it is less accurate.

After Mitchell et al., "Model Cards for Model Reporting", arXiv:1810.03993.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from facecade.faces.labels import BANDS, GENDERS
from facecade.faces.people import people_of
from facecade.faces.split import strata
from facecade.records import FitRecord
from facecade.report.evaluate import Evaluation
from facecade.report.groups import GroupComparison
from facecade.report.nested import NestedPredictions
from facecade.report.results import limits_text, score_interval, table

USE = """* **For:** classifying images of one adult face each by mask (worn, worn incorrectly, not worn), gender as recorded in the training
  data (male, female) and age band, where the images resemble those of the training data; research and competitions.
* **Not for:** decisions about a person. The table below gives the share of right age bands. Gender is predicted from appearance;
  a person's gender can differ. The cascade identifies nobody.
* **Not known:** the scores on people, cameras or masks unlike those of the training data."""


def card(
    nested: NestedPredictions,
    evaluation: Evaluation | None,
    compared: Sequence[GroupComparison],
    cap: float | None,
    corrections: int,
    joined: int,
) -> str:
    """The card as Markdown.

    Args:
        evaluation: of predictions of the same run, if there is one.
        cap: the recorded age that means "at least", or None.
        corrections: number of label corrections that the run started with. joined: number of pairs of ids that were joined,
            because they are one person.
    """
    combiner, choice = nested.combiner, nested.combiner.nested_choice
    groups = strata(people_of(nested.table)).value_counts()
    counts = [[gender, *(str(groups.get(f"{gender} {band}", 0)) for band in BANDS)] for gender in GENDERS]
    head, rows = (
        ["score", "nested out-of-fold"],
        [[name, score_interval(name, value)] for name, value in choice.items()],
    )
    if evaluation:
        head.append(evaluation.counted("other "))
        for row in rows:
            row.append(score_interval(row[0], evaluation.score[row[0]]) if row[0] in evaluation.score else "-")
    stages = {fit.stage: fit for fit in nested.fits}
    folds = len({fit.fold for fit in nested.fits})
    stage_rows = [
        [
            name,
            fit.recipe.backbone,
            "×".join(map(str, fit.recipe.size)),
            str(fit.epochs),
            fit.recipe.weights,
        ]
        for name, fit in stages.items()
    ]
    censored = (
        ""
        if cap is None
        else f" All ages of {cap:.0f} and over are recorded as {cap:.0f}; training treats {cap:.0f} as “at least {cap:.0f}”."
    )
    corrected = f" The run started with {corrections} label correction{'s' * (corrections > 1)}." if corrections else ""
    corrected += f" {joined} pairs of ids were joined, because each is one person." if joined else ""
    age = nested.age[~np.isnan(nested.age)]
    extra = "".join(f"\nExtra data, trained on and never scored: {text}\n" for text in combiner.extra_data)
    gaps = [
        [each.kind, gap.score, gap.worse, gap.better, score_interval(gap.score, gap.difference.json(), 3)]
        for each in compared
        for gap in each.gaps
        if gap.significant
    ]
    gap_text = (
        table(["by", "score", "behind", "ahead", "gap"], gaps) if gaps else "No gap between groups is significant."
    )
    return f"""# Model card: face cascade, 18 classes

Predicts mask (worn, worn incorrectly, not worn) × gender × age band (under 30, 30 to 59, 60 and over) from one image of a face. Written by
`python cli.py report`; every number is read from the run's artifacts. Intervals are 95 %, by bootstrap over people.

## Stages and combiner

{folds} folds each of:

{table(["stage", "backbone", "input", "epochs", "starts from"], stage_rows)}
{_pretrained(stages)}
combined by “{combiner.method}”. Seed {combiner.seed}; folds `{combiner.folds_hash}`; {", ".join(f"{name} {version}" for name, version in combiner.versions.items())}.

## Data

{combiner.images} images of {combiner.people} people, aged {age.min():.0f} to {age.max():.0f}.{censored}{corrected} People by gender and band:

{table(["", *BANDS], counts)}
{extra}
## Intended use

{USE}

## Scores

{table(head, rows)}

*Nested*: stages, cuts, combiner, decision rule and the choice of the method were fitted without the people scored.

## Limits

{limits_text(nested)}

## Gaps between groups

Means over images; the bootstrap draws the same people for both groups. Only gaps whose interval excludes zero are listed.

{gap_text}
"""


def _pretrained(stages: Mapping[str, FitRecord]) -> str:
    """The pretrained weights: what they were trained on, their licence and their source."""
    origins = {fit.recipe.backbone: fit.pretrained for fit in stages.values() if fit.pretrained}
    rows = [[name, origin["trained_on"], origin["licence"], origin["source"]] for name, origin in origins.items()]
    head = ["pretrained backbone", "trained on", "licence", "source"]
    return f"\n{table(head, rows)}\n" if rows else ""
