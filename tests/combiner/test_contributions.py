"""Contributions add up to the combiner's scores, and belong to the right stage."""

from __future__ import annotations

import numpy as np
import pytest
from test_nested import SETTINGS, other_stage_outputs, simulated

from facecade.combiner.contributions import WEIGHTS, Parts, contributions, margin_contributions
from facecade.combiner.decision import GROUP_OF_CLASS
from facecade.combiner.estimators import SoftVote
from facecade.combiner.meta import Boosted
from facecade.combiner.methods import ESTIMATORS, METHODS, FittedCombiner
from facecade.combiner.stage_outputs import StageOutputs

WEIGHT = np.array([0.3, -0.1, 0.5, 0.0, 0.2, 0.6])
LABEL = simulated(0.6)[1]


def fitted(method: str, stage_outputs: StageOutputs) -> FittedCombiner:
    """A combiner fitted on the rows that it then predicts: nothing is scored here."""
    name = METHODS[method].estimator
    inputs = FittedCombiner(method, None, WEIGHT).inputs(stage_outputs)  # type: ignore[arg-type]
    estimator = Boosted.fit(inputs, LABEL, SETTINGS, 0) if name == "boosted" else ESTIMATORS[name].fit(inputs, LABEL)
    return FittedCombiner(method, estimator, WEIGHT if METHODS[method].weighted else np.zeros(6))


def total(parts: Parts) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0)


@pytest.mark.parametrize("kind", ["cascade", "flat", "joint", "years", "pair"])
@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].estimator not in ("plain", "hard")])
def test_parts_add_up_to_the_scores(method: str, kind: str) -> None:
    stage_outputs = simulated(0.6)[0]
    stage_outputs = stage_outputs if kind == "cascade" else other_stage_outputs(kind, stage_outputs, LABEL)
    combiner = fitted(method, stage_outputs)
    probability, prediction = combiner(stage_outputs)
    scores = np.log(probability + 1e-12) + combiner.weights[GROUP_OF_CLASS]
    parts = contributions(combiner, stage_outputs)
    np.testing.assert_allclose(total(parts), scores - scores.mean(1, keepdims=True), atol=1e-4)
    np.testing.assert_array_equal(total(parts).argmax(1), prediction)
    for name, values in parts.items():
        assert values.shape == (len(LABEL), 18), name
        np.testing.assert_allclose(values.mean(1), 0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("method", ["as trained", "hard cascade"])
def test_a_method_that_is_not_a_sum_is_one_part(method: str) -> None:
    stage_outputs = (
        simulated(0.6)[0] if method == "hard cascade" else other_stage_outputs("flat", simulated(0.6)[0], LABEL)
    )
    combiner = fitted(method, stage_outputs)
    parts = contributions(combiner, stage_outputs)
    assert list(parts) == [method, WEIGHTS]
    np.testing.assert_array_equal(total(parts).argmax(1), combiner(stage_outputs)[1])


def test_the_base_margin_counts_once_and_the_trees_constant_is_the_same_for_all_rows() -> None:
    stage_outputs = simulated(0.6)[0]
    combiner = fitted("XGBoost, aligned embeddings", stage_outputs)
    parts = contributions(combiner, stage_outputs)
    assert isinstance(combiner.estimator, Boosted)
    np.testing.assert_allclose(np.ptp(parts["trees: constant"], axis=0), 0, atol=1e-5)
    start = np.log(combiner.estimator.start.probability(stage_outputs) + 1e-6)
    vote = total({name: values for name, values in parts.items() if name.startswith("soft vote")})
    np.testing.assert_allclose(vote, start - start.mean(1, keepdims=True), atol=1e-5)


def test_a_stage_contributes_only_to_its_target() -> None:
    stage_outputs = simulated(0.6)[0]
    parts = contributions(fitted("soft vote", stage_outputs), stage_outputs)
    by_class = {name: values.reshape(-1, 3, 2, 3) for name, values in parts.items()}
    np.testing.assert_allclose(np.ptp(by_class["soft vote: mask"], axis=(2, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(by_class["soft vote: gender"], axis=(1, 3)), 0, atol=1e-9)
    male, female = (by_class[f"soft vote: age-{gender}"] for gender in ("male", "female"))
    assert np.ptp(male[:, :, 0], axis=2).max() > 1 and np.ptp(female[:, :, 1], axis=2).max() > 1
    np.testing.assert_allclose(np.ptp(male[:, :, 1], axis=2), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(female[:, :, 0], axis=2), 0, atol=1e-9)


def test_age_stages_do_not_decide_between_genders_of_the_same_age() -> None:
    """Both regressors predict an old age: this favors neither gender."""
    stage_outputs = simulated(0.9)[0]
    vote = SoftVote.fit(stage_outputs, LABEL)
    parts = contributions(FittedCombiner("soft vote", vote, np.zeros(6)), stage_outputs)
    years, cell = stage_outputs.years(), (0, slice(None), 2)
    assert years is not None
    old = (years > 70).all(1)
    differences = {name: np.ptp(values.reshape(-1, 3, 2, 3)[old][:, *cell], axis=1) for name, values in parts.items()}
    assert old.sum() > 20 and max(differences[f"soft vote: age-{gender}"].max() for gender in ("male", "female")) < 0.2
    assert np.median(differences["soft vote: gender"]) > 2


def test_the_contribution_belongs_to_the_stage_whose_embedding_is_informative() -> None:
    """Only the mask stage's embedding is informative about the band."""
    stage_outputs = simulated(0.6)[0]
    band = LABEL % 3
    embedding = stage_outputs.embedding["mask"] + 3 * (band == 2)[:, None].astype(np.float32)
    zeros = {stage: np.zeros_like(stage_outputs.logits[stage]) for stage in ("age-male", "age-female")}
    informative = StageOutputs({**stage_outputs.logits, **zeros}, stage_outputs.columns, {"mask": embedding})
    combiner = fitted("XGBoost, aligned embeddings", informative)
    parts = contributions(combiner, informative)
    means = {name: np.abs(values).mean() for name, values in parts.items() if name.startswith("trees: ")}
    assert max(means, key=lambda name: means[name]) == "trees: mask"
    without = contributions(fitted("XGBoost, logits", informative), informative)
    assert np.abs(without["trees: mask"]).mean() < means["trees: mask"] / 3


def test_margin_contributions_add_up_to_the_margin() -> None:
    stage_outputs = simulated(0.6)[0]
    combiner = fitted("XGBoost, aligned embeddings + decision rule", stage_outputs)
    probability, predictions = combiner(stage_outputs)
    for row in (0, 100, 700):
        result = margin_contributions(combiner, stage_outputs, row)
        assert result.prediction == predictions[row] != result.runner_up
        others = (
            np.delete(probability[row : row + 1], result.prediction, axis=1),
            np.delete(np.arange(18), result.prediction),
        )
        weighted = np.log(others[0][0] + 1e-12) + combiner.weights[GROUP_OF_CLASS][others[1]]
        assert result.runner_up == others[1][weighted.argmax()]
        assert result.margin == pytest.approx(combiner.margin(stage_outputs)[row], abs=1e-4)
        assert sum(result.parts.values()) == pytest.approx(result.margin)
        sizes = [abs(value) for value in result.parts.values()]
        assert sizes == sorted(sizes, reverse=True)
