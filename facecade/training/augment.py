"""Augmentation by albumentations: the only file that imports it."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facecade.base.errors import FacecadeError, unknown_name

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version

import albumentations as A

import facecade.training.pixels  # noqa: F401, it keeps OpenCV's threads from the models' cores


def build(transforms: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> A.Compose:
    """A pipeline from a recipe's list of `{name = "...", argument = ...}`, ending at `size`.

    A transform that holds others (OneOf, Sequential) takes them as `transforms`.

    Raises:
        FacecadeError: a name albumentations has not, or arguments the transform does not take.
    """
    return A.Compose([_transform(item) for item in transforms] + [A.Resize(*size)])


def _transform(item: Mapping[str, Any]) -> Any:
    arguments = {key: tuple(value) if _range(value) else value for key, value in item.items() if key != "name"}
    name = str(item.get("name", ""))
    kind = getattr(A, name, None)
    if not isinstance(kind, type) or not issubclass(kind, (A.BasicTransform, A.BaseCompose)):
        choices = [n for n, v in vars(A).items() if isinstance(v, type) and issubclass(v, A.BasicTransform)]
        raise unknown_name("augmentation", name, choices)
    if "transforms" in arguments:
        arguments["transforms"] = [_transform(inner) for inner in arguments["transforms"]]
    try:
        # albumentations only warns of an unknown argument, and trains on without it
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return kind(**arguments)
    except (TypeError, ValueError, UserWarning) as error:
        first = str(error).strip().splitlines()[0]
        raise FacecadeError(f"augmentation {name}: {first}", f"it was given {arguments}") from None


def _range(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int | float) for item in value)


def apply(pipeline: A.Compose, crop: np.ndarray, seed: int) -> np.ndarray:
    """One augmented crop; the same seed gives the same pixels, whoever computes it.

    Args:
        crop: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (*size, 3), RGB.
    """
    # Not Compose.set_random_seed: that hands every transform the same seed, and with it the same draws, so that a
    # image gets either all of its augmentations or none.
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return np.asarray(pipeline(image=crop)["image"])
