"""Age heads: their width, and how their outputs become years."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

CENTRE_YEARS, SPREAD_YEARS = 38.0, 13.0
"""years = output * SPREAD_YEARS + CENTRE_YEARS for a regression, so that a new head starts near the mean age."""

FIRST_AGE, LAST_AGE = 15, 90
AGES = torch.arange(float(FIRST_AGE), LAST_AGE + 1)
"""Ages in years that a distribution or an ordinal head covers."""


def _count_below(age: float) -> int:
    """Number of AGES below an age; computed in Python, so that a traced export has a constant."""
    return sum(year < age for year in range(FIRST_AGE, LAST_AGE + 1))


class AgeHead(ABC):
    """Outputs [B, width] → years, and the log-odds that an age is reached."""

    width: int
    has_log_odds = True
    """Whether `log_odds` is available."""

    @abstractmethod
    def years(self, outputs: Tensor) -> Tensor:
        """The age in years [B]."""

    @abstractmethod
    def log_odds(self, outputs: Tensor, age: float) -> Tensor:
        """Log-odds [B] that the person is of `age` or older."""


class Regression(AgeHead):
    """One number."""

    width = 1
    has_log_odds = False

    def years(self, outputs: Tensor) -> Tensor:
        return outputs[..., 0].float() * SPREAD_YEARS + CENTRE_YEARS

    def log_odds(self, outputs: Tensor, age: float) -> Tensor:
        raise TypeError("a regression has no log-odds")


class Distribution(AgeHead):
    """A probability for every age in AGES."""

    width = len(AGES)

    def years(self, outputs: Tensor) -> Tensor:
        return outputs.float().softmax(-1) @ AGES.to(outputs.device)

    def log_odds(self, outputs: Tensor, age: float) -> Tensor:
        log_p, below = outputs.log_softmax(-1), _count_below(age)
        return log_p[..., below:].logsumexp(-1) - log_p[..., :below].logsumexp(-1)


class Ordinal(AgeHead):
    """For every age but the first, the log-odds of reaching it, given that the age before is reached (CORN,
    arXiv:2111.08851). The product of these probabilities falls with age, so the ranks are always consistent."""

    width = len(AGES) - 1

    def years(self, outputs: Tensor) -> Tensor:
        return FIRST_AGE + F.logsigmoid(outputs.float()).cumsum(-1).exp().sum(-1)

    def log_odds(self, outputs: Tensor, age: float) -> Tensor:
        log_p = F.logsigmoid(outputs[..., : _count_below(age)].float()).sum(-1).clamp(max=-1e-6)
        return log_p - torch.log(-torch.expm1(log_p))


class Bins(AgeHead):
    """A probability for each of a few age bins; a bin counts as the age at its middle.

    edges: ages at which a new bin begins, ascending.
    """

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.width = len(edges) + 1
        ends = torch.tensor([min(18.0, edges[0] - 4), *edges, max(75.0, edges[-1] + 10)])
        self.middles = (ends[:-1] + ends[1:]) / 2

    def years(self, outputs: Tensor) -> Tensor:
        return outputs.float().softmax(-1) @ self.middles.to(outputs.device)

    def log_odds(self, outputs: Tensor, age: float) -> Tensor:
        """Log-odds of the bin whose lower edge is nearest to `age`, or a later bin."""
        first = min(range(len(self.edges)), key=lambda index: abs(self.edges[index] - age)) + 1
        log_p = outputs.log_softmax(-1)
        return log_p[..., first:].logsumexp(-1) - log_p[..., :first].logsumexp(-1)


REGRESSION, DISTRIBUTION, ORDINAL = Regression(), Distribution(), Ordinal()
