"""The parts of a combiner add up to its decision, and each belongs to who said it."""

from __future__ import annotations

import numpy as np
import pytest
from test_nested import SETTINGS, made, other_stage_outputs

from facecade.combiner.contributions import WEIGHTS, Parts, contributions, margin_contributions
from facecade.combiner.decision import GROUPS
from facecade.combiner.estimators import SoftVote
from facecade.combiner.meta import Boosted
from facecade.combiner.methods import ESTIMATORS, METHODS, FittedCombiner
from facecade.combiner.stage_outputs import StageOutputs

WEIGHT = np.array([0.3, -0.1, 0.5, 0.0, 0.2, 0.6])
LABEL = made(0.6)[1]


def fitted(way: str, stage_outputs: StageOutputs) -> FittedCombiner:
    """A combiner fitted on the rows that it is then asked about: here nothing is scored."""
    rule = METHODS[way].estimator
    heard = FittedCombiner(way, None, WEIGHT).inputs(stage_outputs)  # type: ignore[arg-type]
    fit = Boosted.fit(heard, LABEL, SETTINGS, 0) if rule == "boosted" else ESTIMATORS[rule].fit(heard, LABEL)
    return FittedCombiner(way, fit, WEIGHT if METHODS[way].weighted else np.zeros(6))


def total(parts: Parts) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0)


@pytest.mark.parametrize("kind", ["cascade", "flat", "joint", "years", "pair"])
@pytest.mark.parametrize("way", [way for way in METHODS if METHODS[way].estimator not in ("plain", "hard")])
def test_parts_add_up_to_what_the_answer_is_the_largest_of(way: str, kind: str) -> None:
    stage_outputs = made(0.6)[0]
    stage_outputs = stage_outputs if kind == "cascade" else other_stage_outputs(kind, stage_outputs, LABEL)
    combiner = fitted(way, stage_outputs)
    probability, answer = combiner(stage_outputs)
    decided = np.log(probability + 1e-12) + combiner.weights[GROUPS]
    parts = contributions(combiner, stage_outputs)
    np.testing.assert_allclose(total(parts), decided - decided.mean(1, keepdims=True), atol=1e-4)
    np.testing.assert_array_equal(total(parts).argmax(1), answer)
    for name, values in parts.items():
        assert values.shape == (len(LABEL), 18), name
        np.testing.assert_allclose(values.mean(1), 0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("way", ["as trained", "hard cascade"])
def test_a_rule_that_is_no_sum_is_one_part(way: str) -> None:
    stage_outputs = made(0.6)[0] if way == "hard cascade" else other_stage_outputs("flat", made(0.6)[0], LABEL)
    combiner = fitted(way, stage_outputs)
    parts = contributions(combiner, stage_outputs)
    assert list(parts) == [way, WEIGHTS]
    np.testing.assert_array_equal(total(parts).argmax(1), combiner(stage_outputs)[1])


def test_the_base_margin_is_counted_once_and_what_trees_say_of_any_face_is_the_same_for_all() -> None:
    stage_outputs = made(0.6)[0]
    combiner = fitted("XGBoost, aligned embeddings", stage_outputs)
    parts = contributions(combiner, stage_outputs)
    assert isinstance(combiner.estimator, Boosted)
    np.testing.assert_allclose(np.ptp(parts["trees: constant"], axis=0), 0, atol=1e-5)
    start = np.log(combiner.estimator.start.probability(stage_outputs) + 1e-6)
    vote = total({name: values for name, values in parts.items() if name.startswith("soft vote")})
    np.testing.assert_allclose(vote, start - start.mean(1, keepdims=True), atol=1e-5)


def test_a_stage_speaks_of_what_it_was_asked() -> None:
    stage_outputs = made(0.6)[0]
    parts = contributions(fitted("soft vote", stage_outputs), stage_outputs)
    by_class = {name: values.reshape(-1, 3, 2, 3) for name, values in parts.items()}
    np.testing.assert_allclose(np.ptp(by_class["soft vote: mask"], axis=(2, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(by_class["soft vote: gender"], axis=(1, 3)), 0, atol=1e-9)
    male, female = (by_class[f"soft vote: age-{gender}"] for gender in ("male", "female"))
    assert np.ptp(male[:, :, 0], axis=2).max() > 1 and np.ptp(female[:, :, 1], axis=2).max() > 1
    np.testing.assert_allclose(np.ptp(male[:, :, 1], axis=2), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(female[:, :, 0], axis=2), 0, atol=1e-9)


def test_two_genders_of_one_age_are_told_apart_by_gender_and_not_by_age() -> None:
    """Both regressors are sure that an old face is old: none of that speaks for either gender."""
    stage_outputs = made(0.9)[0]
    vote = SoftVote.fit(stage_outputs, LABEL)
    parts = contributions(FittedCombiner("soft vote", vote, np.zeros(6)), stage_outputs)
    years, cell = stage_outputs.years(), (0, slice(None), 2)
    assert years is not None
    old = (years > 70).all(1)
    apart = {name: np.ptp(values.reshape(-1, 3, 2, 3)[old][:, *cell], axis=1) for name, values in parts.items()}
    assert old.sum() > 20 and max(apart[f"soft vote: age-{gender}"].max() for gender in ("male", "female")) < 0.2
    assert np.median(apart["soft vote: gender"]) > 2


def test_whose_embedding_the_trees_heard_is_who_moved_the_answer() -> None:
    """Bands can be told by the mask stage's embedding alone."""
    stage_outputs = made(0.6)[0]
    band = LABEL % 3
    embedding = stage_outputs.embedding["mask"] + 3 * (band == 2)[:, None].astype(np.float32)
    mute = {stage: np.zeros_like(stage_outputs.logits[stage]) for stage in ("age-male", "age-female")}
    told = StageOutputs({**stage_outputs.logits, **mute}, stage_outputs.columns, {"mask": embedding})
    combiner = fitted("XGBoost, aligned embeddings", told)
    parts = contributions(combiner, told)
    means = {name: np.abs(values).mean() for name, values in parts.items() if name.startswith("trees: ")}
    assert max(means, key=lambda name: means[name]) == "trees: mask"
    without = contributions(fitted("XGBoost, logits", told), told)
    assert np.abs(without["trees: mask"]).mean() < means["trees: mask"] / 3


def test_what_tipped_a_row_adds_up_to_its_lead() -> None:
    stage_outputs = made(0.6)[0]
    combiner = fitted("XGBoost, aligned embeddings + decision rule", stage_outputs)
    probability, answers = combiner(stage_outputs)
    for row in (0, 100, 700):
        said = margin_contributions(combiner, stage_outputs, row)
        assert said.prediction == answers[row] != said.runner_up
        others = (
            np.delete(probability[row : row + 1], said.prediction, axis=1),
            np.delete(np.arange(18), said.prediction),
        )
        weighed = np.log(others[0][0] + 1e-12) + combiner.weights[GROUPS][others[1]]
        assert said.runner_up == others[1][weighed.argmax()]
        assert said.margin == pytest.approx(combiner.margin(stage_outputs)[row], abs=1e-4)
        assert sum(said.parts.values()) == pytest.approx(said.margin)
        sizes = [abs(value) for value in said.parts.values()]
        assert sizes == sorted(sizes, reverse=True)
