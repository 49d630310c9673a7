"""The stages that predict a class: of one label, or of several at once."""

from __future__ import annotations

from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES, class_name
from facecade.stages.stage import Classifier
from facecade.stages.targets import age_band_of, class_of, gender_age_of, gender_of, mask_of


def mask(loss: str) -> Classifier:
    """Mask: worn, worn incorrectly, or not worn."""
    return Classifier("mask", MASKS, mask_of, loss)


def gender(loss: str) -> Classifier:
    """Gender, as labelled."""
    return Classifier("gender", GENDERS, gender_of, loss)


def band(loss: str) -> Classifier:
    """Age band: under 30, 30 to 59, 60 and over."""
    return Classifier("band", BANDS, age_band_of, loss)


def gender_age(loss: str) -> Classifier:
    """The six pairs of gender and age band."""
    return Classifier("gender-age", [f"{g} {b}" for g in GENDERS for b in BANDS], gender_age_of, loss)


def flat(loss: str) -> Classifier:
    """All 18 classes."""
    return Classifier("flat", [class_name(label) for label in range(N_CLASSES)], class_of, loss)
