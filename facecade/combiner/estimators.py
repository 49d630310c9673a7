"""Simple estimators, the baselines of XGBoost: as trained, hard cascade, soft vote, logistic regression.

All have the same interface: `fit(stage_outputs, label)` returns an estimator, and its `probability(stage_outputs)` is
(N, 18). It holds only arrays, so that it is saved without pickle; `layout()` is their layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecade.base.arrays import Layout
from facecade.combiner.cuts import band_by_cuts, fit_cuts
from facecade.combiner.features import features
from facecade.combiner.stage_outputs import AGE_STAGES, StageOutputs
from facecade.faces.labels import GENDERS, N_CLASSES, decode, encode

Arrays = dict[str, np.ndarray]

CUTS: Layout = {"cuts?": "f8 2 2"}

INVERSE_L2 = 0.1
"""C of the logistic regressions. The penalty is strong because the several images of a person are worth about one."""


def fit_cuts_by_gender(stage_outputs: StageOutputs, label: np.ndarray) -> np.ndarray | None:
    """Lower and upper cut (2, 2) in years of the male and the female regressor, each fitted on its own gender; None
    where no stage predicts years."""
    _, gender, band = decode(label)
    years = stage_outputs.years()
    if years is None:
        return None
    return np.array([fit_cuts(years[gender == g, g], band[gender == g]) for g in range(2)])


@dataclass(frozen=True)
class HardCascade:
    """The most probable mask, the most probable gender, and the band of that gender's predicted age."""

    cuts: np.ndarray

    @classmethod
    def supports(cls, stage_outputs: StageOutputs) -> bool:
        return stage_outputs.years() is not None

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> HardCascade:
        cuts = fit_cuts_by_gender(stage_outputs, label)
        assert cuts is not None
        return cls(cuts)

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        """(N, 18): 1 for the predicted class, 0 for the others."""
        gender, years = stage_outputs.gender_probability().argmax(1), stage_outputs.years()
        assert years is not None
        bands = np.column_stack([band_by_cuts(years[:, g], (self.cuts[g, 0], self.cuts[g, 1])) for g in range(2)])
        band = bands[np.arange(len(stage_outputs)), gender]
        return np.eye(N_CLASSES)[encode(stage_outputs.mask_probability().argmax(1), gender, band)]

    def arrays(self) -> Arrays:
        return {"cuts": self.cuts}

    @classmethod
    def layout(cls) -> Layout:
        return {"cuts": "f8 2 2"}

    @classmethod
    def load(cls, arrays: Arrays) -> HardCascade:
        return cls(arrays["cuts"])


@dataclass(frozen=True)
class AsTrained:
    """The stages' own probabilities: the 18 classes, or the product of mask and gender × band. Nothing is fitted.

    Where each gender has an age stage of its own, only that of the more probable gender is used.
    """

    @classmethod
    def supports(cls, stage_outputs: StageOutputs) -> bool:
        return bool(stage_outputs.kind_columns("flat")) or cls._gender_band(stage_outputs) is not None

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> AsTrained:
        return cls()

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        """(N, 18)."""
        if stage_outputs.kind_columns("flat"):
            return stage_outputs.cell_probability("flat").reshape(len(stage_outputs), N_CLASSES)
        gender_band = self._gender_band(stage_outputs)
        assert gender_band is not None
        product = stage_outputs.mask_probability()[:, :, None] * gender_band[:, None]
        return product.reshape(len(stage_outputs), N_CLASSES)

    @staticmethod
    def _gender_band(stage_outputs: StageOutputs) -> np.ndarray | None:
        """Probability (N, 6) of gender × band, where the stages give it without cuts; or None."""
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
    def layout(cls) -> Layout:
        return {}

    @classmethod
    def load(cls, arrays: Arrays) -> AsTrained:
        return cls()


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on standardized features, as arrays."""

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, label: np.ndarray, classes: int) -> Logistic:
        """Fit; classes that do not occur get a probability near 0."""
        from sklearn.linear_model import LogisticRegression  # takes longer to import than to predict an image
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(values)
        present = np.unique(label)
        if len(present) == 1:  # nothing to fit: always predict that class
            bias = np.full(classes, -30.0)
            bias[present] = 0.0
            return cls(scaler.mean_, scaler.scale_, np.zeros((classes, values.shape[1])), bias)
        model = LogisticRegression(C=INVERSE_L2, max_iter=2000, tol=1e-5).fit(scaler.transform(values), label)
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
    def layout(cls, classes: int, prefix: str = "") -> Layout:
        inputs = f"{prefix}inputs"
        shapes = {"mean": inputs, "scale": inputs, "weight": f"{classes} {inputs}", "bias": f"{classes}"}
        return {f"{prefix}{name}": f"f8 {shape}" for name, shape in shapes.items()}

    @classmethod
    def load(cls, arrays: Arrays, prefix: str = "") -> Logistic:
        return cls(*(arrays[f"{prefix}{name}"] for name in ("mean", "scale", "weight", "bias")))


@dataclass(frozen=True)
class SoftVote:
    """p(mask) · p(gender) · p(band | gender), each calibrated by a logistic regression on the outputs of all stages for
    it.

    The bands of both genders share one regression, with an intercept for each gender: there are too few old people for
    two.
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
    def layout(cls) -> Layout:
        return {**Logistic.layout(3, "mask_"), **Logistic.layout(2, "gender_"), **Logistic.layout(3, "band_")}

    @classmethod
    def load(cls, arrays: Arrays) -> SoftVote:
        return cls(*(Logistic.load(arrays, f"{name}_") for name in ("mask", "gender", "band")))


def age_inputs(stage_outputs: StageOutputs) -> list[np.ndarray]:
    """Inputs of the regression of bands, for either gender: all stages' outputs for that gender's age, and the gender
    as a last column. Where the genders do not have the same stages, each has its own columns."""
    male, female = (stage_outputs.for_target(stage) for stage in AGE_STAGES)
    if male.shape != female.shape:
        zeros = [np.zeros_like(male), np.zeros_like(female)]
        male, female = np.column_stack([male, zeros[1]]), np.column_stack([zeros[0], female])
    return [
        np.column_stack([values, np.full(len(stage_outputs), gender)]) for gender, values in enumerate((male, female))
    ]


def age_input_stages(stage_outputs: StageOutputs) -> list[list[str]]:
    """The stage of each column of `age_inputs` except the last."""
    male, female = (stage_outputs.stages_for_target(stage) for stage in AGE_STAGES)
    return [male, female] if len(male) == len(female) else [[*male, *female]] * 2


@dataclass(frozen=True)
class LogisticStack:
    """One logistic regression on all features."""

    cuts: np.ndarray | None
    model: Logistic

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray) -> LogisticStack:
        cuts = fit_cuts_by_gender(stage_outputs, label)
        values, _ = features(stage_outputs, cuts)
        return cls(cuts, Logistic.fit(values, label, N_CLASSES))

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        values, _ = features(stage_outputs, self.cuts)
        return self.model.probability(values)

    def arrays(self) -> Arrays:
        return {**({} if self.cuts is None else {"cuts": self.cuts}), **self.model.arrays()}

    @classmethod
    def layout(cls) -> Layout:
        return {**CUTS, **Logistic.layout(N_CLASSES)}

    @classmethod
    def load(cls, arrays: Arrays) -> LogisticStack:
        return cls(arrays.get("cuts"), Logistic.load(arrays))
