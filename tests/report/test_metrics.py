"""Scores against scikit-learn's, and intervals that cover what they promise."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from facecade.report.metrics import confusion, f1_per_class, macro_f1, paired_difference, score


def answers(seed: int, people: int = 200, right: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 5)
    label = generator.integers(0, 18, people)[person]
    sure = generator.random(people) < right  # a person's images err together
    return label, np.where(sure[person], label, generator.integers(0, 18, len(person))), person


def test_values_are_scikit_learns() -> None:
    label, answer, person = answers(0)
    result = score(label, answer, person)
    assert result["macro-F1"].value == pytest.approx(f1_score(label, answer, average="macro"))
    assert result["accuracy"].value == pytest.approx(accuracy_score(label, answer))
    assert f1_per_class(confusion(label, answer)) == pytest.approx(f1_score(label, answer, average=None))


def test_classes_that_never_occur_do_not_count() -> None:
    label = answer = np.array([0, 0, 3])
    assert macro_f1(confusion(label, answer)) == 1.0
    assert np.isnan(f1_per_class(confusion(label, answer))[1])


def test_intervals_over_people_cover_the_truth() -> None:
    """Accuracy of the process above is known; about 95 % of its intervals should hold it."""
    truth = 0.7 + 0.3 / 18
    held = [score(*answers(seed))["accuracy"] for seed in range(60)]
    assert np.mean([interval.low <= truth <= interval.high for interval in held]) >= 0.88
    by_image = score(*answers(0)[:2], np.arange(1000))["accuracy"]
    assert by_image.high - by_image.low < held[0].high - held[0].low


def test_a_paired_difference_is_of_the_same_people() -> None:
    label, answer, person = answers(0)
    better = np.where(np.random.default_rng(1).random(len(label)) < 0.2, label, answer)
    difference = paired_difference(label, better, answer, person)
    assert difference.low > 0 and difference.high - difference.low < 0.1
    assert paired_difference(label, answer, answer, person).high == 0


def test_age_error_in_years() -> None:
    label, answer, person = answers(0)
    age = np.full(len(label), 40.0)
    assert score(label, answer, person, age, age + 3)["age MAE"].value == pytest.approx(3)
