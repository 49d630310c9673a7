"""What people read in place of codes, and why years may lie outside of the band."""

from __future__ import annotations

import math

import pytest

from facecade.faces.labels import GENDERS, MASKS, N_CLASSES, encode
from facecade.faces.words import LEGEND, band_note, class_in_words, in_words, prediction_in_words

CUTS = {"male": (39.8, 48.0), "female": (28.75, 53.5)}


def test_a_class_is_named_in_words() -> None:
    assert class_in_words(16) == "no mask · woman · 30–59" and class_in_words(0) == "mask · man · under 30"
    assert class_in_words(11) == "mask worn wrongly · woman · 60 or over"
    assert len({class_in_words(label) for label in range(N_CLASSES)}) == N_CLASSES
    assert prediction_in_words(16, 44.7) == "no mask · woman · 30–59 · about 45 years"
    assert prediction_in_words(16, None) == prediction_in_words(16, math.nan) == class_in_words(16)


def test_the_legend_names_every_code() -> None:
    assert all(f"{code} = " in LEGEND for code in (*MASKS, *GENDERS)) and "normal = no mask" in LEGEND


def test_outputs_of_stages_are_in_words() -> None:
    assert in_words("normal female >=60") == "no mask · woman · 60 or over" and in_words("wear") == "mask"
    assert in_words("what else") == "what else", "an unknown word stays as it is"


@pytest.mark.parametrize(
    ("gender", "band", "age", "note"),
    [
        ("female", 2, 55.0, "band limit for women: 53.5"),
        ("male", 0, 39.0, "band limit for men: 39.8"),
        ("female", 1, 29.2, "band limit for women: 28.8"),
        ("male", 0, 41.0, "band predicted separately"),
        ("female", 1, 61.0, "band predicted separately"),
        ("female", 1, 45.0, ""),
        ("male", 1, 29.7, ""),
        ("male", 0, 29.7, "band limit for men: 39.8"),
        ("female", 2, math.nan, ""),
    ],
)
def test_years_outside_of_the_shown_band_are_explained(gender: str, band: int, age: float, note: str) -> None:
    """29.7 is shown as 30 years, which is not under 30."""
    assert band_note(int(encode(2, GENDERS.index(gender), band)), age, CUTS) == note


def test_without_learned_limits_the_band_is_predicted_separately() -> None:
    assert band_note(int(encode(0, 0, 2)), 55.0, {}) == "band predicted separately"
