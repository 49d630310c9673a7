"""XGBoost on all stage outputs, starting from the soft vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from facecade.base.arrays import Layout
from facecade.base.artifact import again
from facecade.base.errors import FacecadeError, first_line
from facecade.combiner.estimators import CUTS, Arrays, SoftVote, fit_cuts_by_gender
from facecade.combiner.features import features
from facecade.combiner.stage_outputs import StageOutputs
from facecade.combiner.trees import Trees
from facecade.faces.labels import N_CLASSES
from facecade.recipe import CombinerRecipe

if TYPE_CHECKING:
    import xgboost as xgb


@dataclass(frozen=True)
class Boosted:
    """Gradient-boosted trees (arXiv:1603.02754) that correct the soft vote's log-probabilities.

    Trees need hundreds of rounds to approximate the product of three probabilities, and only a few
    dozen to correct it.
    """

    cuts: np.ndarray | None
    start: SoftVote
    trees: Trees

    @classmethod
    def fit(cls, stage_outputs: StageOutputs, label: np.ndarray, settings: CombinerRecipe, seed: int) -> Boosted:
        """Fit to out-of-fold outputs of N rows and their classes (N,)."""
        import xgboost as xgb

        cuts, start = fit_cuts_by_gender(stage_outputs, label), SoftVote.fit(stage_outputs, label)
        parameters = {
            "objective": "multi:softprob",
            "num_class": N_CLASSES,
            "tree_method": "hist",
            "max_bin": 64,
            "eta": settings.learning_rate,
            "max_depth": settings.max_depth,
            "subsample": settings.subsample,
            "min_child_weight": settings.min_child_weight,
            "colsample_bytree": settings.colsample,
            "lambda": settings.reg_lambda,
            "seed": seed,
            "nthread": 1,  # a second thread gains seconds, and waits for minutes where another process has the core
        }
        # xgb.train, not XGBClassifier, which refuses labels in which a class is missing.
        booster = xgb.train(parameters, _matrix(stage_outputs, cuts, start, label), settings.rounds)
        return cls(cuts, start, Trees.of(booster))

    def probability(self, stage_outputs: StageOutputs) -> np.ndarray:
        """(N, 18)."""
        values, _ = features(stage_outputs, self.cuts)
        return softmax(self.trees.margin(values, base_margin(self.start, stage_outputs)).astype(float), axis=1)

    def shap(self, stage_outputs: StageOutputs) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """What each feature adds to each class's margin, in nats: SHAP values of the trees (TreeSHAP, Lundberg et al.,
        arXiv:1802.03888), as XGBoost computes them.

        Returns:
            values (N, 18, F), the trees' average outputs (N, 18), and the features' names. With `base_margin` they add
            up to the logits of `probability`.

        Raises:
            FacecadeError: trees whose statistics are damaged.
        """
        import xgboost as xgb

        matrix = _matrix(stage_outputs, self.cuts, self.start)
        try:
            values = np.asarray(self.trees.booster().predict(matrix, pred_contribs=True), float)
        except xgb.core.XGBoostError as error:
            raise FacecadeError(f"XGBoost cannot explain its trees: {first_line(error)}", again("fit-meta")) from error
        # XGBoost includes the base margin in the bias
        average = values[..., -1] - base_margin(self.start, stage_outputs)
        return values[..., :-1], average, list(matrix.feature_names or [])

    def arrays(self) -> Arrays:
        return {**({} if self.cuts is None else {"cuts": self.cuts}), **self.start.arrays()}

    @classmethod
    def layout(cls) -> Layout:
        return {**CUTS, **SoftVote.layout()}

    @classmethod
    def load(cls, arrays: Arrays, trees: Trees) -> Boosted:
        return cls(arrays.get("cuts"), SoftVote.load(arrays), trees)


def _matrix(
    stage_outputs: StageOutputs, cuts: np.ndarray | None, start: SoftVote, label: np.ndarray | None = None
) -> xgb.DMatrix:
    import xgboost as xgb

    values, names = features(stage_outputs, cuts)
    return xgb.DMatrix(values, label, base_margin=base_margin(start, stage_outputs), feature_names=names)


def base_margin(start: SoftVote, stage_outputs: StageOutputs) -> np.ndarray:
    """The soft vote's log-probabilities, from which the trees start, float32 (N, 18)."""
    return np.log(start.probability(stage_outputs) + 1e-6).astype(np.float32)
