"""Losses by name, alone or in weighted sums: `ce`, `focal(gamma=1.5)`, `0.3*ce + 0.7*f1`."""

from facecade.training.losses.age import AgeLoss, age_loss, is_age_loss
from facecade.training.losses.classes import ClassLoss, class_loss

__all__ = ["AgeLoss", "ClassLoss", "age_loss", "class_loss", "is_age_loss"]
