"""Nested predictions do not depend on their own labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import combiner_summary

from facecade.combiner.decision import decide, fit_weights
from facecade.combiner.estimators import AsTrained, HardCascade, Logistic, SoftVote
from facecade.combiner.features import features
from facecade.combiner.methods import METHODS, load, methods_for, save
from facecade.combiner.nested import cross_decide
from facecade.combiner.selection import compare, fit_final
from facecade.combiner.stage_outputs import StageOutputs, missing_targets
from facecade.faces.labels import GENDERS, MASKS, decode, encode
from facecade.recipe import CombinerRecipe
from facecade.records import Reliability
from facecade.report.metrics import confusion, macro_f1

SETTINGS = CombinerRecipe(rounds=8, components=3)
N = 1440


def simulated(signal: float, seed: int = 0) -> tuple[StageOutputs, np.ndarray, np.ndarray]:
    """Stage outputs of 240 people × 6 images, whose information about the label grows with `signal`; labels; folds."""
    generator = np.random.default_rng(seed)
    person = np.arange(N) // 6
    gender, age = person % 2, generator.choice([23.0, 45.0, 68.0], 240)[person] + generator.normal(0, 3, 240)[person]
    mask = generator.integers(0, 3, N)
    label = encode(mask, gender, np.digitize(age, [30, 60]))

    def noisy(truth: np.ndarray, spread: float) -> np.ndarray:
        return (signal * truth + generator.normal(0, spread, truth.shape)).astype(np.float32)

    years = [noisy(age[:, None], 4 * signal + (1 - signal) * 15) + np.float32(40 * (1 - signal)) for _ in range(2)]
    logits = {
        "mask": noisy(4 * np.eye(3)[mask], 1),
        "gender": noisy(4 * np.eye(2)[gender], 1),
        "age-male": years[0],
        "age-female": years[1],
    }
    columns = {"mask": ("a", "b", "c"), "gender": ("m", "f"), "age-male": ("years",), "age-female": ("years",)}
    embedding = {"mask": generator.normal(0, 1, (N, 3)).astype(np.float32)}
    return StageOutputs(logits, columns, embedding), label, person // 2 % 4


def other_stage_outputs(kind: str, stage_outputs: StageOutputs, label: np.ndarray) -> StageOutputs:
    """Stage outputs of other recipes: one `flat` network, `joint` on bands, joint on `years`, or mask beside a `pair`."""
    mask, gender, band = decode(label)
    noise = np.random.default_rng(5)

    def noisy_logits(truth: np.ndarray, classes: int) -> np.ndarray:
        return (4 * np.eye(classes)[truth] + noise.normal(0, 1, (N, classes))).astype(np.float32)

    joint = ("mask.a", "mask.b", "mask.c", "gender.m", "gender.f")
    parts = [noisy_logits(mask, 3), noisy_logits(gender, 2)]
    logits = {
        "flat": {"flat": noisy_logits(label, 18)},
        "joint": {"joint": np.column_stack([*parts, noisy_logits(band, 3)])},
        "years": {"joint": np.column_stack([*parts, stage_outputs.logits["age-male"]])},
        "pair": {"mask": noisy_logits(mask, 3), "gender-age": noisy_logits(gender * 3 + band, 6)},
    }[kind]
    columns = {
        "flat": {"flat": tuple(f"c{i}" for i in range(18))},
        "joint": {"joint": (*joint, "age.<30", "age.30-59", "age.>=60")},
        "years": {"joint": (*joint, "age.years")},
        "pair": {"mask": ("a", "b", "c"), "gender-age": tuple(f"p{i}" for i in range(6))},
    }[kind]
    return StageOutputs(logits, columns, {})


@pytest.mark.parametrize("kind", ["flat", "joint", "years", "pair"])
def test_stages_that_predict_all_targets_can_be_combined(kind: str, tmp_path: Path) -> None:
    four, label, fold = simulated(signal=1.0)
    stage_outputs = other_stage_outputs(kind, four, label)
    assert missing_targets(stage_outputs.logits) == []
    results = compare(stage_outputs, stage_outputs, label, fold, SETTINGS, 0).results
    assert ("hard cascade" in results) == (kind == "years") != ("as trained" in results)
    scores = {name: float(macro_f1(confusion(label, result.prediction))) for name, result in results.items()}
    assert min(scores.values()) > 0.6, scores
    name = "XGBoost, logits + decision rule"
    combiner = fit_final(name, results[name], stage_outputs, label, SETTINGS, 0)
    save(tmp_path, combiner, combiner_summary(), Reliability())
    assert np.array_equal(load(tmp_path)[0](stage_outputs)[1], combiner(stage_outputs)[1])
    assert np.isnan(stage_outputs.age()).all() == (kind != "years")


def test_missing_targets_are_named() -> None:
    assert missing_targets(["mask", "gender", "age-male"]) == ["age"] and missing_targets(["gender-age"]) == ["mask"]
    assert (
        missing_targets(["flat"])
        == missing_targets(["joint"])
        == missing_targets(["mask", "gender", "age-male", "age-female"])
        == []
    )


def test_as_trained_is_the_argmax_of_the_stages() -> None:
    four, label, _ = simulated(signal=1.0)
    flat = other_stage_outputs("flat", four, label)
    prediction = AsTrained.fit(flat, label).probability(flat).argmax(1)
    assert (prediction == flat.logits["flat"].argmax(1)).all()
    pair = other_stage_outputs("pair", four, label)
    mask, gender, band = decode(AsTrained.fit(pair, label).probability(pair).argmax(1))
    assert (mask == pair.logits["mask"].argmax(1)).all()
    assert (gender * 3 + band == pair.logits["gender-age"].argmax(1)).all()


def test_as_trained_uses_the_age_stage_of_the_more_probable_gender() -> None:
    """Female has probability .45 and a more confident band; the band of male is used all the same."""
    logits = {
        "mask": np.array([[9.0, 0, 0]]),
        "gender": np.log([[0.55, 0.45]]),
        "age-male": np.array([[35.0, 0.4, -1.1]]),
        "age-female": np.array([[20.0, -3.0, -5.0]]),
    }
    odds = ("years", "log_odds_30", "log_odds_60")
    columns = {"mask": MASKS, "gender": GENDERS, "age-male": odds, "age-female": odds}
    stage_outputs = StageOutputs(logits, columns, {})
    assert AsTrained().probability(stage_outputs).argmax(1).tolist() == [0]


def test_random_labels_score_at_chance() -> None:
    stage_outputs, label, fold = simulated(signal=1.0)
    person = np.arange(N) // 6
    generator = np.random.default_rng(1)
    mask, gender, band = decode(label)
    swap = generator.permutation(240)[person]  # permute genders and bands between people, masks between images
    first = np.arange(240) * 6
    shuffled = encode(generator.permutation(mask), gender[first][swap], band[first][swap])
    selection = compare(stage_outputs, stage_outputs, shuffled, fold, SETTINGS, 0)
    results, chosen = selection.results, selection.chosen
    assert (
        set(results)
        == set(methods_for(stage_outputs))
        == {name for name in METHODS if not name.startswith("as trained")}
    )
    chance = 1 / 3 * 1 / 2 * 1 / 3
    for prediction in [*(result.prediction for result in results.values()), chosen]:
        assert (prediction >= 0).all()
        assert macro_f1(confusion(shuffled, prediction)) < chance + 0.03


def test_every_method_scores_informative_outputs() -> None:
    stage_outputs, label, fold = simulated(signal=1.0)
    selection = compare(stage_outputs, stage_outputs, label, fold, SETTINGS, 0)
    results, chosen = selection.results, selection.chosen
    scores = {name: float(macro_f1(confusion(label, result.prediction))) for name, result in results.items()}
    assert min(scores.values()) > 0.6
    assert selection.best == max((n for n in scores if "raw" not in n), key=lambda name: scores[name])
    assert macro_f1(confusion(label, chosen)) <= max(scores.values()) + 1e-9


def test_labels_do_not_affect_their_own_predictions() -> None:
    """Changed labels of a fold leave the nested predictions of that fold unchanged."""
    stage_outputs, label, fold = simulated(signal=0.9)
    changed = label.copy()
    changed[fold == 2] = (changed[fold == 2] + 5) % 18
    before = compare(stage_outputs, stage_outputs, label, fold, SETTINGS, 0).results
    after = compare(stage_outputs, stage_outputs, changed, fold, SETTINGS, 0).results
    for name in before:
        assert (before[name].prediction[fold == 2] == after[name].prediction[fold == 2]).all()
        assert np.array_equal(before[name].probability[fold == 2], after[name].probability[fold == 2])
    assert any((before[name].prediction[fold == 1] != after[name].prediction[fold == 1]).any() for name in before)


@pytest.mark.parametrize("name", [name for name in METHODS if "raw" not in name])
def test_every_method_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    stage_outputs, label, fold = simulated(signal=0.9)
    if name not in methods_for(stage_outputs):
        stage_outputs = other_stage_outputs("flat", stage_outputs, label)
    results = compare(stage_outputs, stage_outputs, label, fold, CombinerRecipe(rounds=2, components=3), 0).results
    combiner = fit_final(name, results[name], stage_outputs, label, SETTINGS, 0)
    save(tmp_path, combiner, combiner_summary(), Reliability())
    probability, prediction = combiner(stage_outputs)
    loaded, _ = load(tmp_path)
    loaded_probability, loaded_prediction = loaded(stage_outputs)
    assert np.array_equal(prediction, loaded_prediction) and np.allclose(probability, loaded_probability, atol=1e-6)
    assert probability.sum(1) == pytest.approx(np.ones(N), abs=1e-4)
    assert not list(tmp_path.glob("*.pkl"))


def test_hard_cascade_is_argmaxes_and_cuts() -> None:
    stage_outputs, label, _ = simulated(signal=1.0)
    estimator = HardCascade.fit(stage_outputs, label)
    mask, gender, band = decode(estimator.probability(stage_outputs).argmax(1))
    assert (mask == stage_outputs.logits["mask"].argmax(1)).all()
    assert (gender == stage_outputs.logits["gender"].argmax(1)).all()
    years = stage_outputs.years()[np.arange(N), gender]
    assert (band == [np.digitize(y, estimator.cuts[g]) for y, g in zip(years, gender, strict=True)]).all()


def test_soft_vote_multiplies_its_parts() -> None:
    stage_outputs, label, _ = simulated(signal=1.0)
    estimator = SoftVote.fit(stage_outputs, label)
    parts = estimator.probability(stage_outputs).reshape(N, 3, 2, 3)
    assert parts.sum((2, 3)) == pytest.approx(estimator.mask.probability(stage_outputs.logits["mask"]), abs=1e-9)
    assert parts.sum((1, 3)) == pytest.approx(estimator.gender.probability(stage_outputs.logits["gender"]), abs=1e-9)


def test_logistic_of_one_class_predicts_that_class() -> None:
    """As in a dataset with one mask state."""
    values = np.random.default_rng(0).normal(0, 1, (30, 2))
    assert (Logistic.fit(values, np.full(30, 2), 3).probability(values)[:, 2] > 0.999).all()


def test_logistic_gives_absent_classes_no_probability() -> None:
    generator = np.random.default_rng(0)
    values, label = generator.normal(0, 1, (90, 2)), np.arange(90) % 2 * 2
    assert Logistic.fit(values, label, 4).probability(values)[:, [1, 3]].max() < 1e-6


def test_features_are_named_and_include_both_regressors() -> None:
    stage_outputs, _, _ = simulated(signal=1.0)
    cuts = np.array([[30.0, 58.0], [31.0, 55.0]])
    values, names = features(stage_outputs, cuts)
    column = {name: values[:, index] for index, name in enumerate(names)}
    assert len(names) == len(set(names)) == values.shape[1] and "gender.f-m" in names
    years, gender = stage_outputs.years(), stage_outputs.gender_probability()
    assert column["age-female.above_lower"] == pytest.approx(years[:, 1] - 31, abs=1e-4)
    assert column["age.weighted"] == pytest.approx((years * gender).sum(1), abs=1e-3)
    assert "mask.embedding2" in names


def test_weights_are_scored_on_held_out_rows() -> None:
    """On noise, weights raise the score of the rows they were fitted on, and not of others."""
    rng = np.random.default_rng(0)
    label, fold = rng.integers(0, 18, 1200), np.arange(1200) % 4
    probability = rng.dirichlet(np.ones(18), 1200)
    own = decide(probability, fit_weights(probability, label))
    held_out = cross_decide(probability, label, fold)
    plain = probability.argmax(1)
    scores = [float(macro_f1(confusion(label, prediction))) for prediction in (own, held_out, plain)]
    assert scores[0] > scores[2] + 0.005 and scores[0] > scores[1] + 0.005 and (held_out >= 0).all()
