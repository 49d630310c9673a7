"""What the combiner must beat: hard cascade, soft vote, logistic regression.

Every rule has the same shape: `fit(voices, label)` gives a function from voices to probabilities
(N, 18), and holds nothing but arrays, so that it can be kept without a pickle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from facecade.combiner.cuts import band_by_cuts, fit_cuts
from facecade.combiner.features import features
from facecade.combiner.stage_outputs import AGE_STAGES, StageOutputs
from facecade.faces.labels import GENDERS, N_CLASSES, decode, encode

Arrays = dict[str, np.ndarray]

STRENGTH = 0.1
"""Inverse of the L2 penalty of logistic regressions: a person's several images are worth about one."""


def learn_cuts(stage_outputs: StageOutputs, label: np.ndarray) -> np.ndarray | None:
    """Lower and upper cut (2, 2) in years of the male and the female regressor, each from its own gender; None
    where no stage knows years."""
    _, gender, band = decode(label)
    years = stage_outputs.years()
    if years is None:
        return None
    return np.array([fit_cuts(years[gender == g, g], band[gender == g]) for g in range(2)])


@dataclass(frozen=True)
class HardCascade:
    """The most probable mask, the most probable gender, that gender's age cut into a band."""

    cuts: np.ndarray

    @classmethod
    def knows(cls, stage_outputs: StageOutputs) -> bool:
        return stage_outputs.years() is not None

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> HardCascade:
        cuts = learn_cuts(stage_outputs, label)
        assert cuts is not None
        return cls(cuts)

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        """All on one class, (N, 18)."""
        gender, years = stage_outputs.gender_probability().argmax(1), stage_outputs.years()
        assert years is not None
        bands = np.column_stack([band_by_cuts(years[:, g], (self.cuts[g, 0], self.cuts[g, 1])) for g in range(2)])
        band = bands[np.arange(len(stage_outputs)), gender]
        return np.eye(N_CLASSES)[encode(stage_outputs.mask_probability().argmax(1), gender, band)]

    def arrays(self) -> Arrays:
        return {"cuts": self.cuts}

    @classmethod
    def load(cls, arrays: Arrays) -> HardCascade:
        return cls(arrays["cuts"])


@dataclass(frozen=True)
class AsTrained:
    """What the stages say, as it is: the 18 classes, or the product of mask and gender × band. Nothing is learned.

    Where each gender has an age stage of its own, the more likely gender decides which of the two is heard.
    """

    @classmethod
    def knows(cls, stage_outputs: StageOutputs) -> bool:
        return bool(stage_outputs.kind_columns("flat")) or cls._pair(stage_outputs) is not None

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> AsTrained:
        return cls()

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        """(N, 18)."""
        if stage_outputs.kind_columns("flat"):
            return stage_outputs.cell_probability("flat").reshape(len(stage_outputs), N_CLASSES)
        pair = self._pair(stage_outputs)
        assert pair is not None
        return (stage_outputs.mask_probability()[:, :, None] * pair[:, None]).reshape(len(stage_outputs), N_CLASSES)

    @staticmethod
    def _pair(stage_outputs: StageOutputs) -> np.ndarray | None:
        """Probability (N, 6) of gender × band, where the stages say it without cuts."""
        if stage_outputs.kind_columns("gender-age"):
            return stage_outputs.cell_probability("gender-age").reshape(len(stage_outputs), -1)
        bands, gender = stage_outputs.band_probability(), stage_outputs.gender_probability()
        if bands is None:
            return None
        if stage_outputs.kind_columns(AGE_STAGES[0]):
            gender = np.eye(len(GENDERS))[gender.argmax(1)]
        return (gender[:, :, None] * bands).reshape(len(stage_outputs), -1)

    def arrays(self) -> Arrays:
        return {}

    @classmethod
    def load(cls, arrays: Arrays) -> AsTrained:
        return cls()


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on standardised features, as arrays."""

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, label: np.ndarray, classes: int) -> Logistic:
        """Classes that do not occur get no probability."""
        scaler = StandardScaler().fit(values)
        only = np.unique(label)
        if len(only) == 1:  # nothing to learn: that class, whatever is seen
            bias = np.full(classes, -30.0)
            bias[only] = 0.0
            return cls(scaler.mean_, scaler.scale_, np.zeros((classes, values.shape[1])), bias)
        model = LogisticRegression(C=STRENGTH, max_iter=2000, tol=1e-5).fit(scaler.transform(values), label)
        weight, bias = np.zeros((classes, values.shape[1])), np.full(classes, -30.0)
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            weight[model.classes_[1]], bias[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
        else:
            weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
        return cls(scaler.mean_, scaler.scale_, weight, bias)

    def probability(self, values: np.ndarray) -> np.ndarray:
        """(N, F) → (N, classes)."""
        logits = (values - self.mean) / self.scale @ self.weight.T + self.bias
        exp = np.exp(logits - logits.max(1, keepdims=True))
        return exp / exp.sum(1, keepdims=True)

    def arrays(self, prefix: str = "") -> Arrays:
        return {f"{prefix}{name}": getattr(self, name) for name in ("mean", "scale", "weight", "bias")}

    @classmethod
    def load(cls, arrays: Arrays, prefix: str = "") -> Logistic:
        return cls(*(arrays[f"{prefix}{name}"] for name in ("mean", "scale", "weight", "bias")))


@dataclass(frozen=True)
class SoftVote:
    """p(mask) · p(gender) · p(band | gender), each calibrated by a logistic regression on all voices about it.

    Men's and women's bands share one regression, with a constant of each gender: there are too few old people for two.
    """

    mask: Logistic
    gender: Logistic
    band: Logistic

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> SoftVote:
        mask, gender, band = decode(label)
        ages = np.where((gender == 0)[:, None], *age_inputs(stage_outputs))
        return cls(
            Logistic.fit(stage_outputs.for_target("mask"), mask, 3),
            Logistic.fit(stage_outputs.for_target("gender"), gender, 2),
            Logistic.fit(ages, band, 3),
        )

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        mask = self.mask.probability(stage_outputs.for_target("mask"))
        gender = self.gender.probability(stage_outputs.for_target("gender"))
        bands = np.stack([self.band.probability(ages) for ages in age_inputs(stage_outputs)], axis=1)
        product = mask[:, :, None, None] * (gender[:, :, None] * bands)[:, None]
        return product.reshape(len(stage_outputs), N_CLASSES)

    def arrays(self) -> Arrays:
        return {**self.mask.arrays("mask_"), **self.gender.arrays("gender_"), **self.band.arrays("band_")}

    @classmethod
    def load(cls, arrays: Arrays) -> SoftVote:
        return cls(*(Logistic.load(arrays, f"{name}_") for name in ("mask", "gender", "band")))


def age_inputs(stage_outputs: StageOutputs) -> list[np.ndarray]:
    """What the regression of bands sees of people, were they men and were they women: what all stages say of that
    gender's age, and which it is. Where the genders have not the same stages, each has columns of its own."""
    male, female = (stage_outputs.for_target(stage) for stage in AGE_STAGES)
    if male.shape != female.shape:
        nothing = [np.zeros_like(male), np.zeros_like(female)]
        male, female = np.column_stack([male, nothing[1]]), np.column_stack([nothing[0], female])
    return [
        np.column_stack([values, np.full(len(stage_outputs), gender)]) for gender, values in enumerate((male, female))
    ]


def age_input_stages(stage_outputs: StageOutputs) -> list[list[str]]:
    """The stage that says each column of `age_inputs`, but for the last."""
    male, female = (stage_outputs.stages_for_target(stage) for stage in AGE_STAGES)
    return [male, female] if len(male) == len(female) else [[*male, *female]] * 2


@dataclass(frozen=True)
class LogisticStack:
    """One logistic regression over all the features."""

    cuts: np.ndarray | None
    model: Logistic

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> LogisticStack:
        cuts = learn_cuts(stage_outputs, label)
        values, _ = features(stage_outputs, cuts)
        return cls(cuts, Logistic.fit(values, label, N_CLASSES))

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        values, _ = features(stage_outputs, self.cuts)
        return self.model.probability(values)

    def arrays(self) -> Arrays:
        return {**({} if self.cuts is None else {"cuts": self.cuts}), **self.model.arrays()}

    @classmethod
    def load(cls, arrays: Arrays) -> LogisticStack:
        return cls(arrays.get("cuts"), Logistic.load(arrays))
