"""Values that options and recipes accept."""

from __future__ import annotations

from typing import Literal

Engine = Literal["auto", "torch", "openvino", "onnx"]

Precision = Literal["auto", "fp32", "bf16"]

EnsembleKind = Literal["mean", "soup", "refit", "first"]
"""Which networks of a stage predict: see `facecade.recipe.Recipe.ensemble`."""

FaceChoice = Literal["largest", "all"]
"""Which faces of an image are predicted."""
