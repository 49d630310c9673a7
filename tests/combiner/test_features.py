"""What the stages' voices say together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from combiner.features import Voices, features, lacking
from combiner.rules import AsTrained, SoftVote
from faces.labels import N_CLASSES, class_name

JOINT = (
    *(f"mask.{name}" for name in ("wear", "incorrect", "normal")),
    *(f"gender.{name}" for name in ("male", "female")),
    *("age.years", "age.log_odds_30", "age.log_odds_60"),
)


@pytest.fixture()
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def voices(columns: dict[str, tuple[str, ...]], rng: np.random.Generator, rows: int = 60) -> Voices:
    logits = {stage: rng.normal(size=(rows, len(names))).astype(np.float32) for stage, names in columns.items()}
    return Voices(logits, columns, {})


def test_models_of_one_kind_are_averaged_where_a_rule_asks_for_one_answer(rng: np.random.Generator) -> None:
    both = voices({"joint": JOINT, "joint-2": JOINT}, rng)
    mean = np.mean([both.logits["joint"], both.logits["joint-2"]], axis=0)
    np.testing.assert_allclose(both.mask(), softmax(mean[:, :3], axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.gender(), softmax(mean[:, 3:5], axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.years(), np.column_stack([mean[:, 5], mean[:, 5]]), rtol=1e-5)
    np.testing.assert_allclose(both.ages(), np.column_stack([mean[:, 5], mean[:, 5]]), rtol=1e-5)
    assert both.about("gender").shape == (60, 4), "a vote that is fitted hears each of them"
    _, names = features(both, None)
    assert {"joint.age.years", "joint-2.age.years"} <= set(names)


def test_two_flat_models_vote(rng: np.random.Generator) -> None:
    names = tuple(class_name(label) for label in range(N_CLASSES))
    both = voices({"flat": names, "flat-2": names}, rng)
    mean = np.mean([both.logits["flat"], both.logits["flat-2"]], axis=0)
    assert AsTrained.knows(both)
    np.testing.assert_allclose(AsTrained().probability(both), softmax(mean, axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.mask(), softmax(mean, axis=1).reshape(-1, 3, 6).sum(2), rtol=1e-5)
    vote = SoftVote.fit(both, np.arange(60) % N_CLASSES).probability(both)
    np.testing.assert_allclose(vote.sum(1), 1)


def test_numbered_stages_answer_what_their_kind_answers() -> None:
    assert lacking(["joint-2"]) == [] and lacking(["flat-3"]) == []
    assert lacking(["mask", "gender-2", "age-male"]) == ["age"]
