"""What `--abstain` promises holds for new people, and asking for less risk never answers more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import drawn_predictions
from pydantic import ValidationError
from scipy.stats import binom

from facecade.records import Reliability
from facecade.report import risk
from facecade.report.risk import measure_reliability, risk_curve, upper_bound
from facecade.report.risk_text import bound_percent, promise_text

REPEATS = 60


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer confidences, so that the repetitions are fast."""
    monkeypatch.setattr(risk, "LOG_ODDS", np.arange(-4.0, 6.1, 0.5))
    monkeypatch.setattr(risk, "STEPS", 16)


@pytest.mark.parametrize(("wanted", "people"), [(0.1, 400), (0.2, 100), (0.3, 12)])
def test_the_true_error_of_what_is_answered_stays_below_the_risk(wanted: float, people: int) -> None:
    generator = np.random.default_rng(people)
    probability, right, *_ = drawn_predictions(np.random.default_rng(99), 100_000)
    exceeded, answered = 0, []
    for _ in range(REPEATS):
        measured = measure_reliability(*drawn_predictions(generator, people))
        new = measured.confidence(probability) >= measured.sure_from(wanted)
        answered.append(new.mean())
        exceeded += new.any() and (~right[new]).mean() > wanted
    assert exceeded <= 0.05 * REPEATS
    assert people == 12 or np.mean(answered) > 0.4, "the bound is of use"


@pytest.mark.parametrize("people", [12, 24, 100, 400])
@pytest.mark.parametrize("level", [0.05, 0.05 / 3])
def test_the_bound_holds_where_all_images_of_a_person_are_right_or_wrong(people: int, level: float) -> None:
    """The worst case; the probability that the bound is too low is that of a binomial distribution."""
    wrong = np.tri(people + 1, people, -1)
    bounds = np.array([upper_bound(1 - each, each, level) for each in wrong])
    assert (np.diff(bounds) >= 0).all() and bounds[-1] == 1
    shares = bounds[bounds < 0.6] + 1e-6  # just above a bound it is too low with the highest probability
    assert binom.cdf(np.arange(len(shares)), people, shares).max() <= level


def test_errors_of_one_person_say_less_than_those_of_many() -> None:
    one_each, seven_each = np.zeros((40, 7)), np.zeros((40, 7))
    one_each[:14, 0], seven_each[:2] = 1, 1
    limits = [upper_bound(1 - each.mean(1), each.mean(1)) for each in (one_each, seven_each)]
    assert 0.05 < limits[0] < limits[1] < 0.3


def test_less_risk_never_answers_more_and_the_error_is_the_measured_one() -> None:
    data = drawn_predictions(np.random.default_rng(3), 400)
    reliability = measure_reliability(*data)
    wanted = np.linspace(0.01, 0.99, 99)
    sure_from = np.array([reliability.sure_from(each) for each in wanted])
    assert (np.diff(sure_from[np.isfinite(sure_from)]) <= 0).all() and sure_from[-1] == 0
    probability, right, _, _ = data
    for each in reliability.risks:
        answered = reliability.confidence(probability) >= each.confidence
        assert answered.mean() == pytest.approx(each.coverage) and (~right[answered]).mean() == pytest.approx(
            each.error
        )
        assert each.bound > each.error
    assert Reliability.model_validate_json(reliability.model_dump_json()) == reliability


def test_a_method_without_probabilities_answers_all_or_nothing() -> None:
    right = np.random.default_rng(0).random(2800) < 0.9
    reliability = measure_reliability(np.ones(2800), right, np.arange(2800) // 7, np.arange(2800) // 7 % 5)
    (answering,) = reliability.risks
    assert answering.coverage == 1 and answering.error == pytest.approx(0.1, abs=0.02)
    assert reliability.confidence(1.0) >= reliability.sure_from(0.2) and reliability.sure_from(0.05) == np.inf


def test_a_chain_whose_start_nobody_reaches_promises_nothing() -> None:
    """A start that depended on the confidences measured would not be fixed before."""
    probability = np.full(2800, 0.9)  # between two starts
    reliability = measure_reliability(probability, np.ones(2800, bool), np.arange(2800) // 7, np.arange(2800) // 7 % 5)
    (answering,) = reliability.risks
    assert answering.confidence == 0 and answering.bound < 0.02


def test_shuffled_labels_promise_nothing() -> None:
    generator = np.random.default_rng(0)
    probability, _, person, fold = drawn_predictions(generator, 200)
    reliability = measure_reliability(probability, generator.random(1400) < 1 / 18, person, fold)
    assert reliability.sure_from(0.5) == np.inf and (reliability.confidence(probability) < 0.5).all()


def test_a_dozen_people_who_are_all_right_still_leave_a_risk() -> None:
    probability = np.random.default_rng(0).uniform(0.2, 1, 84)
    reliability = measure_reliability(probability, np.ones(84, bool), np.arange(84) // 7, np.arange(84) // 7 % 3)
    assert reliability.sure_from(0.1) == np.inf
    lowest = reliability.risks[-1]
    assert 0.2 < lowest.bound < 0.7 and reliability.sure_from(lowest.bound) < np.inf


def test_the_curve_is_the_share_of_errors_among_the_most_confident() -> None:
    confidence, right = np.linspace(1, 0.1, 100), np.arange(100) < 80
    value, low, high = risk_curve(confidence, right, np.arange(100), np.array([0.5, 0.8, 1.0]))
    assert value == pytest.approx([0, 0, 0.2]) and (low <= value).all() and (high >= value).all() and high[2] < 0.3


def test_the_promise_in_words() -> None:
    reliability = Reliability(
        risks=(
            {"confidence": 0.0, "coverage": 1.0, "error": 0.2, "bound": 0.25},
            {"confidence": 0.8, "coverage": 0.84, "error": 0.096, "bound": 0.1201},
        )  # type: ignore[arg-type]  # pydantic makes the records
    )
    (sentence,) = promise_text(reliability.promise(0.125))
    assert (
        "answered 84 % of the images, and 9.6 % of these answers were wrong: at most 12.1 % for new people" in sentence
    )
    assert "answered all of the images" in promise_text(reliability.promise(0.3))[0]
    nothing, lowest = promise_text(reliability.promise(0.05))
    assert nothing.startswith("Everything is unsure") and "12.1 %: --abstain 0.121 answers 84 %" in lowest
    assert reliability.sure_from(0.121) == 0.8, "what the sentence advises works"
    assert len(promise_text(Reliability().promise(0.05))) == 1 and bound_percent(0.1) == "10 %"


ROW = {"confidence": 0.5, "coverage": 0.5, "error": 0.1, "bound": 0.2}


@pytest.mark.parametrize(
    "values",
    [
        {"log_odds": [-1.0, 1.0, 0.0]},
        {"log_odds": [1.0, 1.0, 1e9]},
        {"risks": [ROW, ROW]},
        {"risks": [ROW, {**ROW, "bound": 0.1, "confidence": 0.4}]},
        {"risks": [ROW, {**ROW, "bound": 0.1, "coverage": 0.6}]},
        {"risks": [{**ROW, "error": 1.5}]},
        {"risks": [ROW] * 201},
    ],
)
def test_a_table_that_promises_more_for_less_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Reliability.model_validate(values, strict=False)
