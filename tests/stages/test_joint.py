"""The joint stage is its parts, side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from base.errors import FacecadeError
from stages import stage_named
from training.losses import age_loss, class_loss

JOINT = stage_named("joint")
TABLE = pd.DataFrame(
    {
        "mask": ["wear", "normal", "", "incorrect"],
        "gender": ["male", "", "female", "female"],
        "age": [25.0, 40.0, np.nan, 70.0],
    }
)


def test_a_missing_label_teaches_nothing_and_the_others_teach_as_ever() -> None:
    outputs = torch.randn(4, JOINT.head("huber"), generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.from_numpy(JOINT.target(TABLE))
    assert target.shape == (4, 3)
    loss = JOINT.loss("huber", None)(outputs, target)
    ce, huber = class_loss("ce"), age_loss("huber", None)
    first = 0.5 * ce(outputs[:1, :3], torch.tensor([0])) + ce(outputs[:1, 3:5], torch.tensor([0]))
    first = first + huber(outputs[:1, 5:], torch.tensor([25.0]))
    torch.testing.assert_close(loss[:1], first)
    loss.sum().backward()
    assert outputs.grad is not None
    assert (outputs.grad[1, 3:5] == 0).all() and (outputs.grad[1, :3] != 0).all()
    assert (outputs.grad[2, :3] == 0).all() and (outputs.grad[2, 5] == 0) and (outputs.grad[2, 3:5] != 0).all()


def test_columns_logits_and_scores_are_the_parts() -> None:
    loss = "dldl"
    outputs = np.random.default_rng(0).normal(size=(4, JOINT.head(loss))).astype(np.float32)
    outputs[:, :3] = 5 * np.eye(3)[[0, 2, 1, 1]]
    outputs[:, 3:5] = 5 * np.eye(2)[[0, 0, 1, 0]]
    logits = JOINT.logits(outputs, loss)
    columns = JOINT.columns(loss)
    assert logits.shape == (4, len(columns)) and columns[:5] == (
        "mask.wear",
        "mask.incorrect",
        "mask.normal",
        "gender.male",
        "gender.female",
    )
    assert columns[5] == "age.years" and (logits[:, :5] == outputs[:, :5]).all()
    known = TABLE.iloc[[0, 3]]
    score = JOINT.score(logits[[0, 3]], known)
    assert score["mask accuracy"] == 1.0 and score["gender accuracy"] == 0.5
    assert score["age mae"] == np.abs(logits[[0, 3], 5] - known["age"].to_numpy()).mean()


def test_censored_ages_are_censored_here_too() -> None:
    outputs = torch.zeros(1, JOINT.head("l1"), requires_grad=True)
    with torch.no_grad():
        outputs[0, 5] = 3.0  # years far above the cap
    target = torch.tensor([[0.0, 0.0, 60.0]])
    JOINT.loss("l1", 60.0)(outputs, target).sum().backward()
    assert outputs.grad is not None and outputs.grad[0, 5] == 0 and outputs.grad[0, 0] != 0


def test_an_aided_stage_learns_the_others_and_answers_its_own() -> None:
    plain, aided = stage_named("age-male"), stage_named("age-male", 0.2)
    width = plain.head("dldl")
    assert aided.head("dldl") == width + 3 + 2 and aided.columns("dldl") == plain.columns("dldl")
    outputs = torch.randn(4, aided.head("dldl"), generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = aided.loss("dldl", None)(outputs, torch.from_numpy(aided.target(TABLE)))
    ce = class_loss("ce")
    expected = age_loss("dldl", None)(outputs[:1, :width], torch.tensor([25.0]))
    expected = expected + 0.1 * ce(outputs[:1, width : width + 3], torch.tensor([0]))
    expected = expected + 0.2 * ce(outputs[:1, width + 3 :], torch.tensor([0]))
    torch.testing.assert_close(loss[:1], expected)
    answers = outputs.detach().numpy()
    assert (aided.logits(answers, "dldl") == plain.logits(answers[:, :width], "dldl")).all()
    assert (aided.weight(TABLE, 0.5) == plain.weight(TABLE, 0.5)).all()
    assert (aided.stratum(TABLE) == plain.stratum(TABLE)).all()


def test_a_classifier_is_aided_by_age_as_a_distribution() -> None:
    aided = stage_named("gender", 0.3)
    assert aided.head("ce") == 2 + 3 + stage_named("age-male").head("dldl")
    with pytest.raises(FacecadeError, match="every task already"):
        stage_named("joint", 0.3)
