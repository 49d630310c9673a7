"""bf16 first, and fp32 where that could change the answer.

What bf16 rounds off moves an answer's lead over the next class a little: by how much, is measured. Only photographs whose lead is
less can be answered otherwise; they are few, and their crops are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facecade.combiner.features import Voices, mean
from facecade.faces.look import Look
from facecade.inference.ensemble import Ensemble
from facecade.inference.stream import Heard


@dataclass(frozen=True)
class Exact:
    """The same networks in fp32. ensemble: gives them, and is called where some photograph is near another class. near: lead, in nats, below
    which it is."""

    ensemble: Callable[[], Ensemble]
    near: float


def moved(rough: np.ndarray, exact: np.ndarray) -> float:
    """By how much rounding moves the lead of the class that is exactly the first over that which is exactly the second, at most.

    Args:
        rough, exact: what the answer is the largest of, in nats, (N, 18).
    """
    *_, second, first = np.argsort(exact, axis=1).T
    rows = np.arange(len(exact))
    leads = [each[rows, first] - each[rows, second] for each in (rough, exact)]
    return float(np.abs(leads[0] - leads[1]).max())


def surely(heard: Heard, lead: Callable[[Voices], np.ndarray], exact: Exact) -> Heard:
    """The same photographs, those near another class with what the exact networks say of them.

    Args:
        lead: how far each answer is ahead of the next class, in nats, (N,).
    """
    if not heard.seen.any():
        return heard
    near = np.flatnonzero(lead(mean(list(heard.voices.values()))) < exact.near)
    if not len(near):
        return heard
    crops = [look.crop for look in heard.looks if isinstance(look, Look)]
    again = exact.ensemble().hear_all(np.stack([crops[row] for row in near]))
    return Heard(heard.looks, {fold: voices.with_rows(near, again[fold]) for fold, voices in heard.voices.items()})
