"""Whether a recipe can be trained on a dataset: what `fit-stage` would refuse, found without training."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.faces.split import assign_folds, small_groups_notes
from facecade.faces.table import labelled_rows
from facecade.recipe import Recipe


@dataclass(frozen=True)
class Trainable:
    """refused: why no stage can be trained. stages: why some cannot, by name. notes: what a user may not expect."""

    refused: list[str] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def trainable(table: pd.DataFrame, recipe: Recipe) -> Trainable:
    """
    Args:
        table: sample table of readable images, with one id for each person.
    """
    from facecade.stages import make_stage
    from facecade.stages.check import nothing_to_learn

    try:
        fold = assign_folds(table, recipe.folds, recipe.seed)
    except FacecadeError as error:
        return Trainable([f"{error}: {error.hint}"])
    reasons: dict[str, str] = {}
    for name, settings in recipe.stages.items():
        stage = make_stage(name, settings.loss, settings.auxiliary)
        if reason := nothing_to_learn(stage, settings, table):
            reasons[name] = reason
            continue
        for held_out in range(recipe.folds):
            if reason := nothing_to_learn(stage, settings, table[fold != held_out]):
                reasons[name] = f"{reason}, without the people that fold {held_out} holds out"
                break
    notes = small_groups_notes(table, recipe.folds)
    rows = labelled_rows(table)
    with_rows = len(set(fold[rows]))
    if 0 < with_rows < recipe.folds:
        notes.append(
            f"only {with_rows} of {recipe.folds} folds have images with all three labels: fit-meta will refuse to combine"
        )
    if len(reasons) == len(recipe.stages):
        return Trainable(
            [f"no stage of the recipe has anything to learn: {each}" for each in dict.fromkeys(reasons.values())],
            reasons,
            notes,
        )
    return Trainable([], reasons, notes)
