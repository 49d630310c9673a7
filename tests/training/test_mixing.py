"""MixUp and CutMix: shares and partners match the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from facecade.recipe import StageRecipe
from facecade.training.mixing import Mixture, draw_mixture, mean_loss

ALL_ALLOWED = torch.ones(6, dtype=torch.bool)
# All pixels of image i are 10·i, so the mean of a mixed image determines its shares.
IMAGES = (torch.arange(6, dtype=torch.uint8) * 10)[:, None, None, None].expand(6, 32, 24, 3).contiguous()


def mixed(seed: int, allowed: torch.Tensor = ALL_ALLOWED, **settings: Any) -> Mixture | None:
    recipe = StageRecipe.model_validate({"backbone": "x", "mix_chance": 1.0, **settings})
    return draw_mixture((32, 24), allowed, recipe, np.random.default_rng(seed), torch.device("cpu"))


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_shares_match_the_pixels(settings: dict[str, float]) -> None:
    for seed in range(30):
        mixture = mixed(seed, **settings)
        assert mixture is not None
        first, second = 10.0 * torch.arange(6), 10.0 * mixture.partner
        expected = mixture.share * first + (1 - mixture.share) * second
        torch.testing.assert_close(mixture.images(IMAGES).float().mean((1, 2, 3)), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_some_rows_are_mixed_as_in_the_whole_batch(settings: dict[str, float]) -> None:
    mixture = mixed(1, **settings)
    assert mixture is not None
    for rows in (slice(0, None, 2), slice(1, None, 4)):
        assert mixture.images(IMAGES, rows).equal(mixture.images(IMAGES)[rows])


def test_only_allowed_images_are_mixed() -> None:
    allowed = torch.tensor([True, False, False, True, False, False])
    for settings in ({"mixup": 0.4}, {"cutmix": 1.0}):
        mixture = mixed(3, allowed, **settings)
        assert mixture is not None
        assert (mixture.share[~allowed] == 1).all() and (mixture.share[allowed] < 1).all()
        assert (mixture.images(IMAGES)[~allowed].float() == IMAGES[~allowed].float()).all()


def test_partners_are_drawn_from_the_others() -> None:
    allowed = torch.tensor([True, False, True, True, True, False])  # more than the others
    for seed in range(20):
        mixture = mixed(seed, allowed, mixup=1.0)
        assert mixture is not None
        assert not allowed[mixture.partner[allowed]].any()
        assert (mixture.partner[~allowed] == torch.arange(6)[~allowed]).all()


def test_the_weight_of_a_mixed_image_is_the_mean_of_both() -> None:
    outputs, target, weight = torch.zeros(2, 1), torch.tensor([1.0, 4.0]), torch.tensor([1.0, 0.5])
    share = torch.tensor([0.25, 1.0])
    mixture = Mixture(share < 1, torch.tensor([1, 1]), share, 0.25, None)

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (target - outputs[:, 0]).abs()

    # first: 1/4 · 1 · 1 + 3/4 · 4 · 1/2 of the weight 1/4 · 1 + 3/4 · 1/2; second: 4 · 1/2 of 1/2
    expected = (0.25 + 1.5 + 2.0) / (0.25 + 0.375 + 0.5)
    assert float(mean_loss(loss, outputs, target, weight, mixture)) == pytest.approx(expected)
    assert float(mean_loss(loss, outputs, target, weight, None)) == pytest.approx((1 + 2) / 1.5)


def test_batches_are_mixed_as_often_as_the_recipe_says() -> None:
    assert mixed(0) is None
    recipe = StageRecipe(backbone="x", mixup=0.4, mix_chance=0.3)
    random = np.random.default_rng(0)
    device = torch.device("cpu")
    count = sum(draw_mixture((32, 24), ALL_ALLOWED, recipe, random, device) is not None for _ in range(1000))
    assert 250 < count < 350
