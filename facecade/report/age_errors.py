"""Ages that lie further from what regressors say than their errors reach, and how probably each is wrong.

A recorded age is either right, and lies around what is said as a Student t, whose width depends on that age and on how far the
voices are apart; or wrong, and could be anybody's. Both parts and their shares are one likelihood, fitted as one (Lange, Little and
Taylor, "Robust Statistical Modeling Using the t Distribution", JASA 1989; a mixture with an outlier part: Box and Tiao, 1968). Where
the data write every older person down as one age, being recorded there means "at least" (Tobin, 1958).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, gammaln, log_expit, stdtr
from scipy.stats import t as student

BANDWIDTH = 4.0
"""Years over which the ages of other people are smoothed."""

PRIOR_RATE, PRIOR_TAILS = 0.01, 4.0
"""Share of wrong ages, and degrees of freedom of right ones' errors, before any age is seen."""


@dataclass(frozen=True)
class Said:
    """What is said of the ages of P people: years (P,) by the voices, female (P,) how probably each is a woman, apart (P,)
    how far voices and images are apart, in years."""

    years: np.ndarray
    female: np.ndarray
    apart: np.ndarray

    def take(self, people: np.ndarray) -> Said:
        return Said(self.years[people], self.female[people], self.apart[people])


@dataclass(frozen=True)
class AgeDoubt:
    """centre, width: coefficients (4,) of the expected age and of the logarithm of the errors' scale; tails: degrees of freedom;
    rate: share of ages that are wrong; anybody: ages (M,) of other people; cap: the age that means "at least", or None."""

    standard: tuple[float, float, float, float]
    centre: np.ndarray
    width: np.ndarray
    tails: float
    rate: float
    anybody: np.ndarray
    cap: float | None

    @classmethod
    def fit(cls, said: Said, recorded: np.ndarray, cap: float | None) -> AgeDoubt:
        """Of ages (P,) as recorded, of people whom the voices' models never saw."""
        log_apart = np.log1p(said.apart)
        years, spread = max(float(said.years.std()), 1e-3), max(float(log_apart.std()), 1e-3)
        standard = (float(said.years.mean()), years, float(log_apart.mean()), spread)
        middle = float(np.median(np.abs(recorded - said.years))) / 0.67
        start = np.array([standard[0], years, 0, 0, np.log(max(middle, 1.0)), 0, 0, 0, np.log(PRIOR_TAILS), 0])
        start[-1] = np.log(PRIOR_RATE / (1 - PRIOR_RATE))

        def made(at: np.ndarray) -> AgeDoubt:
            rate = float(expit(at[9]))
            return cls(standard, at[:4], at[4:8], float(np.exp(at[8])), rate, recorded, cap)

        elsewhere = made(start)._log_anybody(recorded)

        def loss(at: np.ndarray) -> float:
            right = made(at)._log_right(said, recorded)
            total = np.logaddexp(log_expit(-at[9]) + right, log_expit(at[9]) + elsewhere).sum()
            # with few people: as broad everywhere, and no bends
            held = 10 * (at[5:8] ** 2).sum() + (at[2:4] ** 2).sum() / 8
            return float(-total + held + 4 * (at[8] - start[8]) ** 2 + 2 * (at[9] - start[9]) ** 2)

        bounds = [(None, None)] * 8 + [(np.log(2.5), np.log(50.0)), (-8.0, -1.0)]
        return made(np.asarray(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x))

    def expected(self, said: Said) -> np.ndarray:
        """The age (P,) that is expected of people of whom this is said."""
        return self._design(said)[0] @ self.centre

    def scale(self, said: Said) -> np.ndarray:
        """Of right ages' errors, in years, (P,)."""
        return np.exp((self._design(said)[1] @ self.width).clip(0, 4))

    def reach(self, said: Said, share: float = 0.95) -> np.ndarray:
        """Years (P,) within which a share of right ages lie around the expected."""
        return self.scale(said) * student.ppf((1 + share) / 2, self.tails)

    def wrong(self, said: Said, recorded: np.ndarray) -> np.ndarray:
        """Probability (P,) that the recorded age is wrong."""
        odds = self._log_anybody(recorded) - self._log_right(said, recorded)
        return expit(odds + np.log(self.rate) - np.log1p(-self.rate))

    def _design(self, said: Said) -> tuple[np.ndarray, np.ndarray]:
        mean, spread, apart, apart_spread = self.standard
        z = ((said.years - mean) / spread).clip(-3, 3)
        one = np.ones(len(z))
        far = ((np.log1p(said.apart) - apart) / apart_spread).clip(-3, 3)
        return np.column_stack([one, z, z**2 - 1, said.female]), np.column_stack([one, z, z**2 - 1, far])

    def _log_right(self, said: Said, recorded: np.ndarray) -> np.ndarray:
        """Logarithm of the density of right ages; at the cap of the probability of being at least so old."""
        scale, tails = self.scale(said), self.tails
        off = (recorded - self.expected(said)) / scale
        density = gammaln((tails + 1) / 2) - gammaln(tails / 2) - 0.5 * np.log(tails * np.pi) - np.log(scale)
        density = density - (tails + 1) / 2 * np.log1p(off**2 / tails)
        return np.where(self._at_cap(recorded), np.log(stdtr(tails, -off) + 1e-300), density)

    def _log_anybody(self, recorded: np.ndarray) -> np.ndarray:
        """Logarithm of how many people have that age: a density, at the cap a share."""
        capped = self._at_cap(self.anybody)
        off = (recorded[:, None] - self.anybody[~capped]) / BANDWIDTH
        density = np.exp(-0.5 * off**2).sum(1) / (BANDWIDTH * np.sqrt(2 * np.pi)) / len(self.anybody)
        return np.log(np.where(self._at_cap(recorded), capped.mean(), density) + 1e-6)

    def _at_cap(self, recorded: np.ndarray) -> np.ndarray:
        return recorded >= self.cap if self.cap is not None else np.zeros(len(recorded), bool)
