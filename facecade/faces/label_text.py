"""Labels as text: which texts are labels, what an age or a band means in years, and what other words probably mean."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from functools import lru_cache

from facecade.faces.labels import GENDERS, MASKS, band_of
from facecade.faces.listing import composed

LABELS = ("mask", "gender", "age")

EXPECTED = {
    "mask": ", ".join(MASKS),
    "gender": "male or female",
    "age": "years between 1 and 120, or a band: <30, 30-59, >=60",
}
"""Values of each label, in words."""

MAX_AGE, OPEN_FROM = 120.0, 99.0
"""The highest age, and the age at which the upper end of a range says no more than an open one."""

YEARS = re.compile(r"[0-9]+(\.[0-9]+)?")
"""An age as written: no sign, exponent, underscore or digits of other scripts, which Python's `float` takes."""

RANGES = (
    (re.compile(r"([0-9]{1,3}) ?[-–~ ] ?([0-9]{1,3})"), lambda low, high: (low, high + 1)),
    (re.compile(r"([0-9]0) ?(?:s|대)"), lambda low: (low, low + 10)),
    (re.compile(r"(?:<|under|below) ?([0-9]{1,3})"), lambda high: (0, high)),
    (re.compile(r"<= ?([0-9]{1,3})"), lambda high: (0, high + 1)),
    (re.compile(r"(?:>=|over|from) ?([0-9]{1,3})"), lambda low: (low, math.inf)),
    (re.compile(r"([0-9]{1,3}) ?(?:\+|plus|and over|or over)"), lambda low: (low, math.inf)),
    (re.compile(r"> ?([0-9]{1,3})"), lambda low: (low + 1, math.inf)),
)
"""How a band is written, and from which age to below which it is. People say `over 60` for `>=60`."""

SYNONYMS: dict[str, dict[str, str]] = {
    "mask": {
        **dict.fromkeys(("wear", "wearing", "worn", "mask", "masked", "with mask", "withmask", "mask on"), "wear"),
        **dict.fromkeys(("correct", "correct mask", "mask worn", "mask worn correctly", "correctly worn"), "wear"),
        **dict.fromkeys(("착용", "마스크", "마스크 착용"), "wear"),
        **dict.fromkeys(("incorrect", "incorrect mask", "mask incorrect", "mask weared incorrect"), "incorrect"),
        **dict.fromkeys(("mask worn incorrect", "mask worn incorrectly", "incorrectly worn", "wrong"), "incorrect"),
        **dict.fromkeys(("wrong mask", "mask wrong", "improper", "오착용"), "incorrect"),
        **dict.fromkeys(("normal", "no mask", "nomask", "without mask", "withoutmask", "unmasked"), "normal"),
        **dict.fromkeys(("mask off", "not worn", "not wear", "no wear", "미착용"), "normal"),
    },
    "gender": {
        **dict.fromkeys(("male", "m", "man", "men", "boy", "남", "남성", "남자"), "male"),
        **dict.fromkeys(("female", "f", "w", "woman", "women", "girl", "여", "여성", "여자"), "female"),
    },
}
"""Other words for each mask state and gender, with spaces between their parts."""


@dataclass(frozen=True)
class Age:
    """An age in years. of_band: whether only a band is known; then `years` is its middle, or the lower edge of an open band,
    which says "at least". middle: whether it is the middle."""

    years: float
    of_band: bool = False
    middle: bool = False


@lru_cache(maxsize=4096)
def age_of(text: str) -> Age | None:
    """The age that a text says; None if it is none, or a band that lies in two of the three.

    The middle of `30-59` is 45, of `<30` 15; `>=60` counts as 60, as where older ages are recorded as 60.
    """
    if YEARS.fullmatch(text):
        return Age(float(text)) if 0 < float(text) <= MAX_AGE else None
    for pattern, ends in RANGES:
        if found := pattern.fullmatch(text.lower()):
            low, high = ends(*map(int, found.groups()))
            return _of_band(low, high)
    return None


def _of_band(low: float, high: float) -> Age | None:
    """The age of a band from `low` to below `high`."""
    last = min(high, MAX_AGE + 1) - 1
    if not 0 <= low <= last or last > MAX_AGE or band_of(low) != band_of(last):
        return None
    return Age(float(low), of_band=True) if last >= OPEN_FROM else Age((low + high) / 2, of_band=True, middle=True)


def is_label(name: str, text: str) -> bool:
    """Whether a text is a value of `mask`, `gender` or `age`."""
    if name == "age":
        return age_of(text) is not None
    return text.lower() in {"mask": MASKS, "gender": GENDERS}[name]


def spaced(text: str) -> str:
    """A text in lower case, with one space for every `_`, `-` and space."""
    return re.sub(r"[_\-\s]+", " ", composed(text).casefold()).strip()


def suggestion(name: str, text: str) -> str:
    """The mask state or gender that a text probably means; empty if none is near."""
    words = SYNONYMS.get(name, {})
    near = difflib.get_close_matches(spaced(text), words, n=1, cutoff=0.8)
    return words[near[0]] if near else ""
