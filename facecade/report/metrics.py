"""Scores with 95 % intervals by bootstrap over people, from arrays alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facecade.faces.labels import N_CLASSES, decode

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A score and the 2.5 and 97.5 % quantiles of its bootstrap."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def json(self) -> dict[str, float]:
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}


def confusion(label: np.ndarray, prediction: np.ndarray, classes: int = N_CLASSES) -> np.ndarray:
    """Counts (classes, classes): rows are true classes, columns predicted ones."""
    pairs = np.bincount(label * classes + prediction, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def f1_per_class(counts: np.ndarray) -> np.ndarray:
    """F1 of every class from confusion counts (..., C, C); NaN for a class that is neither a label nor a prediction."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    total = counts.sum(-1) + counts.sum(-2)
    return np.divide(2 * hits, total, out=np.full(hits.shape, np.nan), where=total > 0)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that occur, from confusion counts (..., C, C)."""
    f1 = f1_per_class(counts)
    present = ~np.isnan(f1)
    return np.where(present, f1, 0).sum(-1) / np.maximum(present.sum(-1), 1)


def sum_by_person(person: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of values (N, K) by person, (P, K), people in sorted order."""
    _, index = np.unique(person, return_inverse=True)
    sums = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums


def bootstrap_weights(people: int, seed: int = 0) -> np.ndarray:
    """Bootstrap weights (RESAMPLES, people): how often each person is drawn."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(people, np.full(people, 1 / people), RESAMPLES).astype(float)


def bootstrap_interval(value: float, draws: np.ndarray) -> Interval:
    """A score and the middle 95 % of its bootstrap draws."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def _confusion_cells(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """One-hot confusion cell of every row, (N, 324)."""
    cells = np.zeros((len(label), N_CLASSES * N_CLASSES), np.float32)
    cells[np.arange(len(label)), label * N_CLASSES + prediction] = 1
    return cells


def macro_f1_draws(label: np.ndarray, prediction: np.ndarray, person: np.ndarray, seed: int = 0) -> np.ndarray:
    """Macro-F1 of every bootstrap bootstrap sample of the people, (RESAMPLES,); one seed draws the same people."""
    sums = sum_by_person(person, _confusion_cells(label, prediction))
    drawn = bootstrap_weights(len(sums), seed) @ sums
    return macro_f1(drawn.reshape(-1, N_CLASSES, N_CLASSES))


def score(
    label: np.ndarray,
    prediction: np.ndarray,
    person: np.ndarray,
    age: np.ndarray | None = None,
    years: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """The main scores of predictions (N,) against labels (N,), classes 0..17.

    Args:
        person: (N,), the person of each row; the bootstrap draws people, because errors of one person's images are
            correlated.
        age, years: true and predicted age (N,), for the mean absolute error in years; optional.
    """
    mask, gender, band = decode(label)
    predicted_mask, predicted_gender, predicted_band = decode(prediction)
    rows = {
        "accuracy": label == prediction,
        "mask accuracy": mask == predicted_mask,
        "gender accuracy": gender == predicted_gender,
        "band accuracy": band == predicted_band,
    }
    if age is not None and years is not None and not np.isnan(years).all():
        rows["age MAE"] = np.abs(age - years)
    values = np.column_stack([*rows.values(), np.ones(len(label))]).astype(float)
    sums = sum_by_person(person, values)
    drawn = bootstrap_weights(len(sums), seed) @ sums
    draws = macro_f1_draws(label, prediction, person, seed)
    result = {"macro-F1": bootstrap_interval(float(macro_f1(confusion(label, prediction))), draws)}
    for column, name in enumerate(rows):
        result[name] = bootstrap_interval(values[:, column].mean(), drawn[:, column] / drawn[:, -1])
    return result


def paired_difference(
    label: np.ndarray, first: np.ndarray, second: np.ndarray, person: np.ndarray, seed: int = 0
) -> Interval:
    """Macro-F1 of `first` minus that of `second` on the same resampled people."""
    value = macro_f1(confusion(label, first)) - macro_f1(confusion(label, second))
    draws = macro_f1_draws(label, first, person, seed) - macro_f1_draws(label, second, person, seed)
    return bootstrap_interval(float(value), draws)


def class_f1(label: np.ndarray, prediction: np.ndarray) -> list[float | None]:
    """F1 of every class; None for a class that is neither a label nor a prediction."""
    values = f1_per_class(confusion(label, prediction))
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


def as_json(scores: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Scores for a JSON file."""
    return {name: interval.json() for name, interval in scores.items()}
