"""Scores equal scikit-learn's, and intervals have their nominal coverage."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from facecade.report.metrics import confusion, f1_per_class, macro_f1, paired_difference, score


def simulated(seed: int, people: int = 200, right: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 5)
    label = generator.integers(0, 18, people)[person]
    known = generator.random(people) < right  # errors of a person's images are correlated
    return label, np.where(known[person], label, generator.integers(0, 18, len(person))), person


def test_scores_equal_scikit_learns() -> None:
    label, prediction, person = simulated(0)
    result = score(label, prediction, person)
    assert result["macro-F1"].value == pytest.approx(f1_score(label, prediction, average="macro"))
    assert result["accuracy"].value == pytest.approx(accuracy_score(label, prediction))
    assert f1_per_class(confusion(label, prediction)) == pytest.approx(f1_score(label, prediction, average=None))


def test_classes_that_never_occur_do_not_count() -> None:
    label = prediction = np.array([0, 0, 3])
    assert macro_f1(confusion(label, prediction)) == 1.0
    assert np.isnan(f1_per_class(confusion(label, prediction))[1])


def test_intervals_over_people_cover_the_truth() -> None:
    """The expected accuracy of `simulated` is known; about 95 % of the intervals should contain it."""
    truth = 0.7 + 0.3 / 18
    intervals = [score(*simulated(seed))["accuracy"] for seed in range(60)]
    assert np.mean([interval.low <= truth <= interval.high for interval in intervals]) >= 0.88
    by_image = score(*simulated(0)[:2], np.arange(1000))["accuracy"]
    assert by_image.high - by_image.low < intervals[0].high - intervals[0].low


def test_a_paired_difference_resamples_the_same_people() -> None:
    label, prediction, person = simulated(0)
    better = np.where(np.random.default_rng(1).random(len(label)) < 0.2, label, prediction)
    difference = paired_difference(label, better, prediction, person)
    assert difference.low > 0 and difference.high - difference.low < 0.1
    assert paired_difference(label, prediction, prediction, person).high == 0


def test_age_error_in_years() -> None:
    label, prediction, person = simulated(0)
    age = np.full(len(label), 40.0)
    assert score(label, prediction, person, age, age + 3)["age MAE"].value == pytest.approx(3)
