"""The expressions that a recipe may write for a loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from facecade.base.errors import FacecadeError
from facecade.training.losses import age_loss, class_loss, is_age_loss
from facecade.training.losses.expression import Term, parse

COUNTS = torch.tensor([10.0, 10.0, 10.0])


def test_sums_weights_and_options_are_parsed() -> None:
    assert parse("ce") == [Term(1.0, "ce", {})]
    assert parse(" 0.3*ce + 0.7*focal(gamma=1.5) ") == [Term(0.3, "ce", {}), Term(0.7, "focal", {"gamma": 1.5})]
    assert parse("bins(edges=(20, 30)) + l1")[0].options == {"edges": (20, 30)}


@pytest.mark.parametrize("text", ["", "ce +", "ce - f1", "ce*f1", "ce(2)", "0.3*(ce + f1)", "a.b", "ce; f1", "ce | f1"])
def test_a_syntax_error_shows_an_example(text: str) -> None:
    with pytest.raises(FacecadeError) as caught:
        parse(text)
    assert "0.3*ce + 0.7*focal(gamma=2)" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["(" * 400, "-" * 400 + "ce", "0x" + "f" * 400 + "*ce", "ce\0", "+".join(["ce"] * 5000), "9" * 5000 + "*ce"]
)
def test_hostile_text_is_a_syntax_error(text: str) -> None:
    with pytest.raises(FacecadeError, match="is not a loss") as caught:
        parse(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("loss", "text", "message"),
    [
        (class_loss, "focal(gamma='a')", "gamma = a is no number"),
        (class_loss, "focal(gamma=[1])", r"gamma = \[1\] is no number"),
        (class_loss, "focal(gamma=1e999)", "gamma = inf is no number"),
        (class_loss, "ce(smoothing=None)", "smoothing = None is no number"),
        (class_loss, "1e9*ce", "the weight 1e"),
        (age_loss, "bins(edges=5)", "edges = 5 is no list of numbers"),
        (age_loss, "bins(edges=('a',))", "is no list of numbers"),
        (age_loss, "bins(edges=())", "do not ascend"),
        (age_loss, "bins(edges=(30, 20))", "do not ascend"),
    ],
)
def test_options_and_weights_are_sensible_numbers(loss: Any, text: str, message: str) -> None:
    with pytest.raises(FacecadeError, match=message):
        loss(text, COUNTS) if loss is class_loss else loss(text)


def test_unknown_names_and_options_suggest_the_nearest() -> None:
    for call, hint in (
        (lambda: class_loss("0.5*ce + focl", COUNTS), "did you mean focal or new_focal?"),
        (lambda: class_loss("focal(gama=2)", COUNTS), "did you mean gamma?"),
        (lambda: class_loss("f1(gamma=2)", COUNTS), "write f1 alone"),
        (lambda: age_loss("hubber"), "did you mean huber?"),
    ):
        with pytest.raises(FacecadeError) as caught:
            call()
        assert caught.value.hint == hint


def test_a_sum_is_the_weighted_sum_of_its_terms() -> None:
    logits, target = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0.0, 1, 2, 1, 0])
    combined = class_loss("0.3*ce + 0.7*f1", COUNTS)(logits, target)
    parts = 0.3 * class_loss("ce", COUNTS)(logits, target) + 0.7 * class_loss("f1", COUNTS)(logits, target)
    torch.testing.assert_close(combined, parts)


def test_losses_of_different_heads_cannot_be_added() -> None:
    with pytest.raises(FacecadeError, match="different heads"):
        age_loss("dldl + corn")
    assert age_loss("dldl + 0.1*l1 + huber").head.width == age_loss("mean_variance").head.width
    assert is_age_loss("dldl + 0.1*l1") and not is_age_loss("ce")
