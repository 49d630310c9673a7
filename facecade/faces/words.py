"""Predictions in words for people. Files and JSON keep the codes of faces/labels.py; `LEGEND` joins the two."""

from __future__ import annotations

import math
from collections.abc import Mapping

from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of, decode

MASK_WORDS = {"wear": "mask", "incorrect": "mask worn wrongly", "normal": "no mask"}
GENDER_WORDS = {"male": "man", "female": "woman"}
PLURAL = {"male": "men", "female": "women"}
BAND_WORDS = {"<30": "under 30", "30-59": "30–59", ">=60": "60 or over"}
WORDS = {**MASK_WORDS, **GENDER_WORDS, **BAND_WORDS}

MASK_LEGEND = ", ".join(f"{code} = {word}" for code, word in MASK_WORDS.items())
LEGEND = ", ".join([MASK_LEGEND, *(f"{code} = {word}" for code, word in GENDER_WORDS.items())])

SEPARATOR = " · "

NO_DETECTOR = "This run looks for no faces (detector = centre): it predicts the center of each image."
NOT_FOR_DECISIONS = "For research and competitions, not for decisions about people."


def class_in_words(label: int) -> str:
    """A class as people read it: `no mask · woman · 30–59`."""
    mask, gender, band = (int(part) for part in decode(label))
    return SEPARATOR.join((MASK_WORDS[MASKS[mask]], GENDER_WORDS[GENDERS[gender]], BAND_WORDS[BANDS[band]]))


def in_words(text: str) -> str:
    """A text with codes, such as a stage's `female 30-59`, in words: `woman · 30–59`."""
    parts = text.split()
    return SEPARATOR.join(WORDS[part] for part in parts) if all(part in WORDS for part in parts) else text


def prediction_in_words(label: int, age: float | None) -> str:
    """A class and the years: `no mask · woman · 30–59 · about 45 years`; the class alone where no years are predicted."""
    years = "" if age is None or math.isnan(age) else f"{SEPARATOR}about {age:.0f} years"
    return class_in_words(label) + years


def band_note(label: int, age: float | None, cuts: Mapping[str, tuple[float, float]]) -> str:
    """Why the years lie outside of the predicted band; empty where they do not.

    Regressors shrink towards the mean age, so the limits between the bands are learned, too, for each gender. Where they
    explain the band, the one between the years and the band is named. Otherwise the other stages decided it.

    Args:
        age: in years. cuts: the learned limits in years, by gender; empty where there are none.
    """
    if age is None or math.isnan(age):
        return ""
    _, gender, band = (int(part) for part in decode(label))
    if round(age) in _years(band):
        return ""
    limits = cuts.get(GENDERS[gender])
    if limits and sum(age >= limit for limit in limits) == band:
        limit = limits[0] if min(band, int(band_of(age))) == 0 else limits[1]
        return f"band limit for {PLURAL[GENDERS[gender]]}: {limit:.1f}"
    return "band predicted separately"


def _years(band: int) -> range:
    """The whole years in a band."""
    return (range(30), range(30, 60), range(60, 1000))[band]
