"""The mask stage: worn, worn incorrectly, or not at all."""

from faces.labels import MASKS
from stages.stage import Classifier

MASK = Classifier("mask", "mask", MASKS)
