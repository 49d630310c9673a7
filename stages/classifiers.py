"""The stages that name a class: one label, or several at once."""

from __future__ import annotations

from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES, class_name
from facecade.stages.stage import Classifier
from facecade.stages.targets import age_band_of, class_of, gender_age_of, gender_of, mask_of


def mask(loss: str) -> Classifier:
    """Worn, worn incorrectly, or not at all."""
    return Classifier("mask", MASKS, mask_of, loss)


def gender(loss: str) -> Classifier:
    """As the data's labels name it."""
    return Classifier("gender", GENDERS, gender_of, loss)


def band(loss: str) -> Classifier:
    """Under 30, 30 to 59, 60 and over."""
    return Classifier("band", BANDS, age_band_of, loss)


def gender_age(loss: str) -> Classifier:
    """The six pairs of gender and age band."""
    return Classifier("gender-age", [f"{g} {b}" for g in GENDERS for b in BANDS], gender_age_of, loss)


def flat(loss: str) -> Classifier:
    """All 18 classes at once."""
    return Classifier("flat", [class_name(label) for label in range(N_CLASSES)], class_of, loss)
