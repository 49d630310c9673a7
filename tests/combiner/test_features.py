"""Features and soft votes of several stages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from facecade.combiner.estimators import AsTrained, SoftVote
from facecade.combiner.features import features
from facecade.combiner.stage_outputs import StageOutputs, missing_targets
from facecade.faces.labels import N_CLASSES, class_name, encode

JOINT = (
    *(f"mask.{name}" for name in ("wear", "incorrect", "normal")),
    *(f"gender.{name}" for name in ("male", "female")),
    *("age.years", "age.log_odds_30", "age.log_odds_60"),
)


@pytest.fixture()
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def stage_outputs(columns: dict[str, tuple[str, ...]], rng: np.random.Generator, rows: int = 60) -> StageOutputs:
    logits = {stage: rng.normal(size=(rows, len(names))).astype(np.float32) for stage, names in columns.items()}
    return StageOutputs(logits, columns, {})


def test_stages_of_one_kind_are_averaged(rng: np.random.Generator) -> None:
    both = stage_outputs({"joint": JOINT, "joint-2": JOINT}, rng)
    mean = np.mean([both.logits["joint"], both.logits["joint-2"]], axis=0)
    np.testing.assert_allclose(both.mask_probability(), softmax(mean[:, :3], axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.gender_probability(), softmax(mean[:, 3:5], axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.years(), np.column_stack([mean[:, 5], mean[:, 5]]), rtol=1e-5)
    np.testing.assert_allclose(both.age_by_gender(), np.column_stack([mean[:, 5], mean[:, 5]]), rtol=1e-5)
    assert both.for_target("gender").shape == (60, 4), "the soft vote uses each of them"
    _, names = features(both, None)
    assert {"joint.age.years", "joint-2.age.years"} <= set(names)


def test_two_flat_stages_are_combined(rng: np.random.Generator) -> None:
    names = tuple(class_name(label) for label in range(N_CLASSES))
    both = stage_outputs({"flat": names, "flat-2": names}, rng)
    mean = np.mean([both.logits["flat"], both.logits["flat-2"]], axis=0)
    assert AsTrained.supports(both)
    np.testing.assert_allclose(AsTrained().probability(both), softmax(mean, axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.mask_probability(), softmax(mean, axis=1).reshape(-1, 3, 6).sum(2), rtol=1e-5)
    vote = SoftVote.fit(both, np.arange(60) % N_CLASSES).probability(both)
    np.testing.assert_allclose(vote.sum(1), 1)


YEARS = ("years", "log_odds_30", "log_odds_60")


def test_one_band_regression_for_both_genders_has_an_intercept_for_each(rng: np.random.Generator) -> None:
    outputs = stage_outputs(
        {"mask": ("a", "b", "c"), "gender": ("m", "f"), "age-male": YEARS, "age-female": YEARS}, rng, 600
    )
    outputs.logits["age-female"][:] = outputs.logits["age-male"]  # the same outputs for both genders
    gender = rng.integers(0, 2, 600)
    old = rng.random(600) < np.where(gender == 1, 0.8, 0.2)  # but more women are old
    bands = SoftVote.fit(outputs, encode(0, gender, 2 * old)).probability(outputs).reshape(600, 3, 2, 3).sum(1)
    share = bands[:, :, 2] / bands.sum(2)
    assert share[:, 0].mean() == pytest.approx(0.2, abs=0.07) and share[:, 1].mean() == pytest.approx(0.8, abs=0.07)
    slope = np.log(bands[:, :, 2] / bands[:, :, 0])
    np.testing.assert_allclose(slope[:, 1] - slope[:, 0], slope[0, 1] - slope[0, 0], rtol=1e-6)


def test_a_stage_of_one_gender_does_not_affect_the_other(rng: np.random.Generator) -> None:
    outputs = stage_outputs({"joint": JOINT, "age-male": YEARS}, rng, 400)
    band = np.digitize(outputs.logits["age-male"][:, 0], [-0.5, 0.5])
    gender = np.arange(400) % 2
    vote = SoftVote.fit(outputs, encode(0, gender, np.where(gender == 0, band, np.arange(400) % 3)))
    bands = vote.probability(outputs).reshape(400, 3, 2, 3).sum(1)
    assert (bands[:, 0].argmax(1) == band).mean() > 0.9, "the male stage predicts their bands"
    other = StageOutputs(
        {**outputs.logits, "age-male": rng.permutation(outputs.logits["age-male"])}, outputs.columns, {}
    )
    women = [each.reshape(400, 3, 2, 3).sum(1)[:, 1] for each in (vote.probability(outputs), vote.probability(other))]
    np.testing.assert_allclose(*women)


def test_numbered_stages_predict_the_targets_of_their_kind() -> None:
    assert missing_targets(["joint-2"]) == [] and missing_targets(["flat-3"]) == []
    assert missing_targets(["mask", "gender-2", "age-male"]) == ["age"]
