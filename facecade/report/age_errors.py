"""How probably a recorded age is wrong, from the ages that regressors predict.

A right age has a Student t distribution around its prediction; its scale depends on the predicted age and on how far
the stages disagree. A wrong age has the distribution of all people's ages. Both parts and their shares are fitted as
one likelihood (Lange, Little and Taylor, "Robust Statistical Modeling Using the t Distribution", JASA 1989; a mixture
with an outlier part: Box and Tiao, 1968). Where the data record every older person at one age, that age means "at
least" (Tobin, 1958).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, gammaln, log_expit, stdtr
from scipy.stats import t as student

BANDWIDTH_YEARS = 4.0
"""Standard deviation of the kernel that smooths the distribution of all people's ages."""

PRIOR_ERROR_RATE, PRIOR_DF = 0.01, 4.0
"""Priors of the share of wrong ages, and of the degrees of freedom of right ages' errors."""


@dataclass(frozen=True)
class AgePredictions:
    """Predicted ages of P people: years (P,); female (P,), the probability of each being a woman; spread (P,), the
    standard deviation over stages and images, in years."""

    years: np.ndarray
    female: np.ndarray
    spread: np.ndarray

    def take(self, people: np.ndarray) -> AgePredictions:
        return AgePredictions(self.years[people], self.female[people], self.spread[people])


@dataclass(frozen=True)
class AgeErrorModel:
    """A mixture of right and wrong ages.

    standardization: mean and standard deviation of years and of log(1 + spread). center, log_scale: coefficients (4,)
    of the expected age and of the logarithm of the errors' scale. df: degrees of freedom. error_rate: share of wrong
    ages. all_ages: ages (M,) of all people fitted on. cap: the age that means "at least", or None."""

    standardization: tuple[float, float, float, float]
    center: np.ndarray
    log_scale: np.ndarray
    df: float
    error_rate: float
    all_ages: np.ndarray
    cap: float | None

    @classmethod
    def fit(cls, predictions: AgePredictions, recorded: np.ndarray, cap: float | None) -> AgeErrorModel:
        """Fit to recorded ages (P,) and out-of-fold predictions of the same people."""
        log_spread = np.log1p(predictions.spread)
        years_std, spread_std = max(float(predictions.years.std()), 1e-3), max(float(log_spread.std()), 1e-3)
        standardization = (float(predictions.years.mean()), years_std, float(log_spread.mean()), spread_std)
        scale = float(np.median(np.abs(recorded - predictions.years))) / 0.67
        start = np.array([standardization[0], years_std, 0, 0, np.log(max(scale, 1.0)), 0, 0, 0, np.log(PRIOR_DF), 0])
        start[-1] = np.log(PRIOR_ERROR_RATE / (1 - PRIOR_ERROR_RATE))

        def model(parameters: np.ndarray) -> AgeErrorModel:
            error_rate, df = float(expit(parameters[9])), float(np.exp(parameters[8]))
            return cls(standardization, parameters[:4], parameters[4:8], df, error_rate, recorded, cap)

        wrong = model(start)._log_density_wrong(recorded)

        def loss(parameters: np.ndarray) -> float:
            right = model(parameters)._log_density_right(predictions, recorded)
            likelihood = np.logaddexp(log_expit(-parameters[9]) + right, log_expit(parameters[9]) + wrong).sum()
            # with few people: a constant scale, and an expected age that is linear in years
            penalty = 10 * (parameters[5:8] ** 2).sum() + (parameters[2:4] ** 2).sum() / 8
            return float(
                -likelihood + penalty + 4 * (parameters[8] - start[8]) ** 2 + 2 * (parameters[9] - start[9]) ** 2
            )

        bounds = [(None, None)] * 8 + [(np.log(2.5), np.log(50.0)), (-8.0, -1.0)]
        return model(np.asarray(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x))

    def expected(self, predictions: AgePredictions) -> np.ndarray:
        """Expected ages (P,) of people with these predictions."""
        return self._design(predictions)[0] @ self.center

    def scale(self, predictions: AgePredictions) -> np.ndarray:
        """Scale (P,) of right ages' errors, in years."""
        return np.exp((self._design(predictions)[1] @ self.log_scale).clip(0, 4))

    def error_bound(self, predictions: AgePredictions, share: float = 0.95) -> np.ndarray:
        """Distance (P,) from the expected age, in years, within which a share of right ages lie."""
        return self.scale(predictions) * student.ppf((1 + share) / 2, self.df)

    def error_probability(self, predictions: AgePredictions, recorded: np.ndarray) -> np.ndarray:
        """Probability (P,) that the recorded age is wrong."""
        log_ratio = self._log_density_wrong(recorded) - self._log_density_right(predictions, recorded)
        return expit(log_ratio + np.log(self.error_rate) - np.log1p(-self.error_rate))

    def _design(self, predictions: AgePredictions) -> tuple[np.ndarray, np.ndarray]:
        """Regressors (P, 4) of the expected age, and of the errors' log-scale."""
        years_mean, years_std, spread_mean, spread_std = self.standardization
        years = ((predictions.years - years_mean) / years_std).clip(-3, 3)
        ones = np.ones(len(years))
        spread = ((np.log1p(predictions.spread) - spread_mean) / spread_std).clip(-3, 3)
        return (
            np.column_stack([ones, years, years**2 - 1, predictions.female]),
            np.column_stack([ones, years, years**2 - 1, spread]),
        )

    def _log_density_right(self, predictions: AgePredictions, recorded: np.ndarray) -> np.ndarray:
        """Log-density of right ages; at the cap, the log-probability of being at least that old."""
        scale, df = self.scale(predictions), self.df
        error = (recorded - self.expected(predictions)) / scale
        density = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi) - np.log(scale)
        density = density - (df + 1) / 2 * np.log1p(error**2 / df)
        return np.where(self._at_cap(recorded), np.log(stdtr(df, -error) + 1e-300), density)

    def _log_density_wrong(self, recorded: np.ndarray) -> np.ndarray:
        """Log-density of the age among all people; at the cap, the log of the share of people there."""
        capped = self._at_cap(self.all_ages)
        distance = (recorded[:, None] - self.all_ages[~capped]) / BANDWIDTH_YEARS
        density = np.exp(-0.5 * distance**2).sum(1) / (BANDWIDTH_YEARS * np.sqrt(2 * np.pi)) / len(self.all_ages)
        return np.log(np.where(self._at_cap(recorded), capped.mean(), density) + 1e-6)

    def _at_cap(self, recorded: np.ndarray) -> np.ndarray:
        return recorded >= self.cap if self.cap is not None else np.zeros(len(recorded), bool)
