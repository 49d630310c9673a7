"""Augmentation: names in recipes, seeds, and errors."""

import numpy as np
import pytest

from facecade.base.errors import FacecadeError
from facecade.training.augment import apply, build
from facecade.training.pixels import resize

CROP = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
TRANSFORMS = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "OneOf", "p": 0.9, "transforms": [{"name": "GaussianBlur", "blur_limit": [3, 5]}, {"name": "GaussNoise"}]},
]


def test_the_same_seed_gives_the_same_pixels() -> None:
    first, second = build(TRANSFORMS, (32, 24)), build(TRANSFORMS, (32, 24))
    for _ in range(3):  # earlier calls must not matter
        apply(second, CROP, 99)
    images = [apply(first, CROP, seed) for seed in range(20)]
    assert images[0].shape == (32, 24, 3) and images[0].dtype == np.uint8
    assert all((image == apply(second, CROP, seed)).all() for seed, image in enumerate(images))
    assert len({image.tobytes() for image in images}) > 10


def test_transforms_draw_independent_random_numbers() -> None:
    """A horizontal flip and an inversion with one seed must be independent."""
    gradient = np.tile(np.arange(48, dtype=np.uint8), (64, 1))[..., None].repeat(3, 2)
    both = build([{"name": "HorizontalFlip", "p": 0.5}, {"name": "InvertImg", "p": 0.5}], (64, 48))
    images = [apply(both, gradient, seed) for seed in range(400)]
    inverted = np.array([image.mean() > 128 for image in images])
    flipped = np.array(
        [(int(image[0, 0, 0]) > int(image[0, -1, 0])) != light for image, light in zip(images, inverted, strict=True)]
    )
    assert 0.4 < flipped.mean() < 0.6 and 0.4 < inverted.mean() < 0.6
    assert abs(np.corrcoef(flipped, inverted)[0, 1]) < 0.15


def test_without_augmentation_a_crop_is_resized_as_for_inference() -> None:
    assert (apply(build([], (32, 24)), CROP, 0) == resize(CROP, (32, 24))).all()
    assert resize(CROP, (64, 48)) is CROP


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "HorizontalFlop"}, "unknown augmentation 'HorizontalFlop'"),
        ({"name": "HorizontalFlip", "chance": 1}, "HorizontalFlip"),
        ({}, "unknown augmentation ''"),
        ({"name": 3}, "unknown augmentation '3'"),
        ({"name": "x" * 5000}, r"unknown augmentation 'x+… \(5,000 characters\)'"),
        ({"name": "OneOf", "transforms": 3}, "OneOf: transforms is no list of tables"),
        ({"name": "OneOf", "transforms": [3]}, "OneOf: transforms is no list of tables"),
        ({"name": "OneOf"}, "OneOf: "),
        ({"name": "GaussianBlur", "blur_limit": "wide" * 5000}, "GaussianBlur"),
    ],
)
def test_wrong_transforms_are_errors(item: dict[str, object], message: str) -> None:
    with pytest.raises(FacecadeError, match=message) as caught:
        build([item], (8, 8))
    assert len(f"{caught.value}{caught.value.hint}") < 600
