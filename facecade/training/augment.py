"""Augmentation by albumentations: the only file that imports it."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facecade.base.errors import FacecadeError, excerpt, first_line, unknown_name

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # no check for a newer version over the network

import albumentations as A

import facecade.training.pixels  # noqa: F401, it turns off OpenCV's threads


def build(transforms: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> A.Compose:
    """A pipeline from a recipe's list of `{name = "...", argument = ...}`, which resizes to `size` at the end.

    A transform that contains others (OneOf, Sequential) takes them as `transforms`.

    Raises:
        FacecadeError: albumentations has no such transform, or the transform does not accept the arguments.
    """
    return A.Compose([_transform(item) for item in transforms] + [A.Resize(*size)])


def _transform(item: Mapping[str, Any]) -> Any:
    arguments = {key: tuple(value) if _is_number_list(value) else value for key, value in item.items() if key != "name"}
    name = str(item.get("name", ""))
    transform = getattr(A, name, None)
    if not isinstance(transform, type) or not issubclass(transform, (A.BasicTransform, A.BaseCompose)):
        choices = [n for n, v in vars(A).items() if isinstance(v, type) and issubclass(v, A.BasicTransform)]
        raise unknown_name("augmentation", name, choices)
    if "transforms" in arguments:
        inner = arguments["transforms"]
        if not isinstance(inner, list) or not all(isinstance(each, Mapping) for each in inner):
            raise FacecadeError(f"augmentation {name}: transforms is no list of tables", "transforms = [{ name = … }]")
        arguments["transforms"] = [_transform(each) for each in inner]
    try:
        # albumentations only warns about an unknown argument and ignores it
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return transform(**arguments)
    except Exception as error:  # each transform has its own
        raise FacecadeError(
            f"augmentation {name}: {first_line(error)}", f"its arguments are {excerpt(arguments)}"
        ) from None


def _is_number_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int | float) for item in value)


def apply(pipeline: A.Compose, crop: np.ndarray, seed: int) -> np.ndarray:
    """One augmented crop; the same seed gives the same pixels in every process.

    Args:
        crop: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (*size, 3), RGB.
    """
    # Not Compose.set_random_seed: it gives every transform the same seed and so the same draws; an image would get
    # either all of its augmentations or none.
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return np.asarray(pipeline(image=crop)["image"])
