"""Names of folders and categories, as labels: `mask_female_30-59`, `wear male <30`, `no_mask`."""

from __future__ import annotations

import re

from facecade.faces.label_text import RANGES, SYNONYMS, YEARS, is_label, spaced
from facecade.faces.reading import Labels, Reading

FILLERS = ("age", "aged", "years old", "years", "year", "old", "gender", "sex", "band", "세")
"""Words of names that say no label themselves."""

AGES = (YEARS, *(pattern for pattern, _ in RANGES))


def labels_of_name(name: str, reading: Reading) -> Labels | None:
    """The labels that a name says, in any order; None if a word in it is unknown, two contradict each other, its ages are in two
    bands, or it is a bare number, which may be an age or the number of a class.

    Words of `reading` come before `SYNONYMS`, and are left as they are.
    """
    words: dict[str, tuple[str, str]] = {filler: ("", "") for filler in FILLERS}
    words |= {word: (field, label) for field, each in SYNONYMS.items() for word, label in each.items()}
    words |= {word: (field, word) for field, each in reading.words.items() for word in each}
    labels: dict[str, str] = {}
    rest = spaced(name)
    bare_number = YEARS.fullmatch(rest) is not None
    while rest:
        word = max((word for word in words if _begins(rest, word)), key=len, default="")
        field, label = words.get(word, ("age", ""))
        age = max(
            (found[0] for pattern in AGES if (found := pattern.match(rest)) and _begins(rest, found[0])),
            key=len,
            default="",
        )
        if len(age) > len(word):
            word, field, label = age, "age", age.replace(" ", "-") if re.fullmatch("[0-9]+ [0-9]+", age) else age
        if not word or labels.get(field, label) != label:
            return None
        if field:
            labels[field] = label
        rest = rest[len(word) :].lstrip()
    valid = all(is_label(field, label) for field, text in labels.items() if (label := reading.label(field, text)))
    return None if bare_number or not labels or not valid else labels


def _begins(text: str, word: str) -> bool:
    return text.startswith(word) and text[len(word) : len(word) + 1] in ("", " ")
