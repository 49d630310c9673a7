"""The rows of an epoch, their order, and its batches."""

from __future__ import annotations

import numpy as np

from facecade.base.seeding import derive
from facecade.recipe import StageRecipe


def epoch_rows(
    rows: np.ndarray,
    person: np.ndarray,
    stratum: np.ndarray,
    old: np.ndarray,
    recipe: StageRecipe,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """The rows of one epoch, shuffled; they depend on the seed and the epoch alone.

    Args:
        rows: int64 (n,), the rows a stage is trained on.
        person: (N,), the person in each row of the whole table.
        stratum: int64 (N,), the class of each row for balancing.
        old: bool (N,), rows of people of 60 and over.
        recipe: `per_person` images of each person, drawn without replacement (0 = all); `copies_of_old` more copies of
            images of old people; then resampled with replacement, with weights count^-`balance` of the class (0 = not
            resampled).

    Returns:
        int64 (m,), rows of the table.
    """
    generator = np.random.default_rng(derive(seed, "epoch", epoch))
    chosen = generator.permutation(rows)
    if recipe.per_person:
        order = np.argsort(person[chosen], kind="stable")
        names = person[chosen][order]
        start = np.r_[0, np.flatnonzero(names[1:] != names[:-1]) + 1]
        rank = np.arange(len(names)) - np.repeat(start, np.diff(np.r_[start, len(names)]))
        chosen = generator.permutation(chosen[order][rank < recipe.per_person])
    if recipe.copies_of_old:
        chosen = generator.permutation(np.r_[chosen, np.repeat(chosen[old[chosen]], recipe.copies_of_old)])
    if recipe.balance:
        counts = np.bincount(stratum[chosen])
        weight = counts[stratum[chosen]].astype(float) ** -recipe.balance
        chosen = generator.choice(chosen, len(chosen), p=weight / weight.sum())
    return chosen


def epoch_batches(count: int, size: int) -> list[np.ndarray]:
    """The batches of an epoch of `count` rows, as positions in it: int64 (size,) each. What is left over is dropped, except where
    it would be the only batch."""
    return [np.arange(count)] if count < size else list(np.arange(count - count % size).reshape(-1, size))
