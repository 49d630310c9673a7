"""The model card: what a fitted cascade is for, what it was made of, and whom it serves less well.

After Mitchell et al., "Model Cards for Model Reporting", arXiv:1810.03993.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facecade.faces.labels import BANDS, GENDERS, band_of
from facecade.report.groups import Compared
from facecade.report.nested import NestedPredictions
from facecade.report.results import interval_of, limits, table

USE = """* **For:** labelling images of one adult face each by whether a mask is worn, worn wrongly or not worn, by gender as recorded in the training
  data (male, female) and by age band, where the images resemble those of the training data; research and competitions.
* **Not for:** deciding about a person. Age bands are wrong for about as many images as the table below says, gender is what a picture suggests and
  not what a person is, and nothing here identifies anybody.
* **Not known:** how well it does on people, cameras or masks unlike those of the training data. No score below says anything of them."""


def card(
    nested: NestedPredictions,
    evaluation: Mapping[str, Any] | None,
    compared: Sequence[Compared],
    cap: float | None,
    corrections: int,
) -> str:
    """The card as Markdown.

    Args:
        evaluation: what evaluation.json holds of answers by the same run, if there is one.
        cap: the age from which the data say only "at least", or None.
        corrections: how many label corrections the run was begun with.
    """
    combiner, choice = nested.combiner, nested.combiner["nested_choice"]
    people = nested.table.groupby("person").first()
    band = band_of(people["age"])
    counts = [
        [gender, *(str(int(((people["gender"] == gender) & (band == place)).sum())) for place in range(len(BANDS)))]
        for gender in GENDERS
    ]
    head, rows = ["score", "nested out-of-fold"], [[name, interval_of(name, said)] for name, said in choice.items()]
    if evaluation:
        head.append(f"{evaluation['images']} images of {evaluation['people']} other people")
        for row in rows:
            row.append(interval_of(row[0], evaluation["score"][row[0]]) if row[0] in evaluation["score"] else "-")
    stages = {fit["stage"]: fit for fit in nested.fits}
    folds = len({fit["fold"] for fit in nested.fits})
    made = [
        [
            name,
            fit["recipe"]["backbone"],
            "×".join(map(str, fit["recipe"]["size"])),
            str(fit["epochs"]),
            str(fit["recipe"]["weights"]),
        ]
        for name, fit in stages.items()
    ]
    censored = (
        ""
        if cap is None
        else f" Ages of {cap:.0f} and over are all recorded as {cap:.0f}, and were learned as “at least”."
    )
    corrected = f" The run began with {corrections} label correction{'s' * (corrections > 1)}." if corrections else ""
    age = nested.age[~np.isnan(nested.age)]
    further = "".join(f"\nLearned from besides, never scored: {text}\n" for text in combiner["extra_data"])
    gaps = [
        [each.kind, gap.score, gap.worse, gap.better, interval_of(gap.score, gap.by.json(), 3)]
        for each in compared
        for gap in each.gaps
        if gap.clear
    ]
    told = table(["by", "score", "behind", "ahead", "gap"], gaps) if gaps else "No gap between groups is beyond chance."
    return f"""# Model card: face cascade, 18 classes

Mask (worn, incorrectly worn, not worn) × gender × age band (under 30, 30 to 59, 60 and over), from one image of a face. Written by
`python cli.py report`; every number is read from the run's artifacts. Intervals are 95 %, by bootstrap over people.

## Made of

{folds} folds each of:

{table(["stage", "backbone", "input", "epochs", "starts from"], made)}
{_pretrained(stages)}
combined by “{combiner["method"]}”. Seed {combiner["seed"]}; folds `{combiner["folds_hash"]}`; {", ".join(f"{name} {version}" for name, version in combiner["versions"].items())}.

## Data

{combiner["images"]} images of {combiner["people"]} people, aged {age.min():.0f} to {age.max():.0f}.{censored}{corrected} People by gender and band:

{table(["", *BANDS], counts)}
{further}
## Intended use

{USE}

## Scores

{table(head, rows)}

*Nested*: stages, cuts, combiner, decision rule and the choice among rules never saw the people scored.

## Limits

{limits(nested)}

## Gaps between groups

Means over images, the same people drawn for both groups; only gaps whose interval excludes zero.

{told}
"""


def _pretrained(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Whose weights training started from, what they were trained on, and under which licence."""
    origins = {fit["recipe"]["backbone"]: fit["pretrained"] for fit in stages.values() if fit.get("pretrained")}
    rows = [[name, said["trained_on"], said["licence"], said["source"]] for name, said in origins.items()]
    head = ["pretrained by others", "trained on", "licence", "from"]
    return f"\n{table(head, rows)}\n" if rows else ""
