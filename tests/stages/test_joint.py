"""Stages with several tasks."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from facecade.base.errors import FacecadeError
from facecade.faces.labels import GENDERS, MASKS
from facecade.pipeline import make_fit
from facecade.runs.run import open_run
from facecade.stages import make_stage
from facecade.training.losses import age_loss, class_loss

COUNTS = torch.ones(3)
TABLE = pd.DataFrame(
    {
        "mask": ["wear", "normal", "", "incorrect"],
        "gender": ["male", "", "female", "female"],
        "age": [25.0, 40.0, np.nan, 70.0],
    }
)


def test_a_missing_label_contributes_no_loss() -> None:
    joint = make_stage("joint", "huber")
    outputs = torch.randn(4, joint.width, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = joint.target(TABLE)
    assert target.shape == (4, 3)
    loss = joint.criterion(None, target)(outputs, torch.from_numpy(target))
    ce, huber = class_loss("ce", COUNTS), age_loss("huber")
    first = 0.5 * ce(outputs[:1, :3], torch.tensor([0])) + ce(outputs[:1, 3:5], torch.tensor([0]))
    first = first + huber(outputs[:1, 5:], torch.tensor([25.0]))
    torch.testing.assert_close(loss[:1], first)
    loss.sum().backward()
    assert outputs.grad is not None
    assert (outputs.grad[1, 3:5] == 0).all() and (outputs.grad[1, :3] != 0).all()
    assert (outputs.grad[2, :3] == 0).all() and (outputs.grad[2, 5] == 0) and (outputs.grad[2, 3:5] != 0).all()


def test_a_loss_over_the_batch_sees_only_samples_with_the_label() -> None:
    joint = make_stage("joint", "f1 | f1 | bins_f1")
    outputs = torch.randn(4, joint.width, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = joint.target(TABLE)
    loss = joint.criterion(None, target)(outputs, torch.from_numpy(target))
    alone = [0, 1, 3]  # with a mask
    expected = 0.5 * class_loss("f1", COUNTS)(outputs[alone, :3], torch.tensor([0, 2, 1]))[0]
    expected = expected + age_loss("bins_f1")(outputs[alone, 5:], torch.tensor([25.0, 40.0, 70.0]))[0]
    torch.testing.assert_close(loss[1], expected)  # the second has no gender
    unknown = torch.full((4, 3), torch.nan)
    assert (joint.criterion(None, target)(outputs, unknown) == 0).all()
    loss.sum().backward()
    assert outputs.grad is not None and outputs.grad.isfinite().all()


def test_validation_samples_may_lack_a_label_that_all_training_samples_have() -> None:
    joint = make_stage("joint", "huber")
    target = joint.target(TABLE)
    outputs = torch.randn(4, joint.width, generator=torch.Generator().manual_seed(0))
    whole, partial = (
        joint.criterion(None, rows)(outputs, torch.from_numpy(target)) for rows in (target[[0, 3]], target)
    )
    torch.testing.assert_close(whole, partial)


@pytest.mark.parametrize("stage", ["mask", "gender", "age-male", "gender-age", "flat", "joint"])
def test_rows_without_a_label_are_sampled_as_a_class_of_their_own(stage: str) -> None:
    unknown = TABLE.iloc[[0, 0]].assign(mask=["wear", ""], gender=["male", ""], age=[25.0, np.nan])
    first, second = make_stage(stage, "l1" if stage == "age-male" else "ce").stratum(unknown)
    assert first != second
    known = pd.DataFrame(list(product(MASKS, GENDERS, (20.0, 45.0, 70.0))), columns=["mask", "gender", "age"])
    strata = make_stage(stage, "l1" if stage == "age-male" else "ce").stratum(pd.concat([known, unknown.iloc[[1]]]))
    assert strata[-1] not in strata[:-1] and (strata >= 0).all()


@pytest.mark.parametrize("stage", ["mask", "gender", "age-male", "flat", "joint"])
def test_held_out_rows_without_a_label_have_no_score(stage: str) -> None:
    each = make_stage(stage, "l1" if stage in ("age-male", "joint") else "ce")
    table = TABLE.assign(mask="", gender="", age=np.nan)
    assert each.score(np.zeros((4, len(each.columns)), np.float32), table) == {}


def test_columns_logits_and_scores_are_those_of_the_tasks() -> None:
    joint = make_stage("joint", "dldl")
    outputs = np.random.default_rng(0).normal(size=(4, joint.width)).astype(np.float32)
    outputs[:, :3] = 5 * np.eye(3)[[0, 2, 1, 1]]
    outputs[:, 3:5] = 5 * np.eye(2)[[0, 0, 1, 0]]
    logits = joint.logits(torch.from_numpy(outputs)).numpy()
    gender = ("gender.male", "gender.female")
    assert joint.columns[:5] == ("mask.wear", "mask.incorrect", "mask.normal", *gender)
    assert logits.shape == (4, len(joint.columns)) and (logits[:, :5] == outputs[:, :5]).all()
    assert joint.columns[5] == "age.years"
    known = TABLE.iloc[[0, 3]]
    score = joint.score(logits[[0, 3]], known)
    assert score["mask accuracy"] == 1.0 and score["gender accuracy"] == 0.5
    assert score["age mae"] == np.abs(logits[[0, 3], 5] - known["age"].to_numpy()).mean()


def test_a_classification_loss_for_age_gives_three_outputs() -> None:
    joint = make_stage("joint", "ce | focal | 0.3*ce + 0.7*f1")
    assert joint.width == 3 + 2 + 3 and joint.columns[5:] == ("age.<30", "age.30-59", "age.>=60")
    np.testing.assert_array_equal(joint.target(TABLE)[:, 2], [0, 1, np.nan, 2])
    with pytest.raises(FacecadeError, match="not a loss of the joint stage"):
        make_stage("joint", "ce | ce")


def test_ages_of_the_joint_stage_are_censored() -> None:
    joint = make_stage("joint", "l1")
    outputs = torch.zeros(1, joint.width)
    outputs[0, 5] = 3.0  # years far above the cap
    outputs.requires_grad_()
    target = torch.tensor([[0.0, 0.0, 60.0]])
    joint.criterion(60.0, target.numpy())(outputs, target).sum().backward()
    assert outputs.grad is not None and outputs.grad[0, 5] == 0 and outputs.grad[0, 0] != 0


def test_a_stage_with_auxiliary_tasks_predicts_its_own_target() -> None:
    plain, auxiliary = make_stage("age-male", "dldl"), make_stage("age-male", "dldl", 0.2)
    assert auxiliary.width == plain.width + 3 + 2 and auxiliary.columns == plain.columns
    outputs = torch.randn(4, auxiliary.width, generator=torch.Generator().manual_seed(0))
    target = auxiliary.target(TABLE)
    loss = auxiliary.criterion(None, target)(outputs, torch.from_numpy(target))
    own, mask, gender = outputs[:1].split([plain.width, 3, 2], 1)
    expected = age_loss("dldl")(own, torch.tensor([25.0]))
    expected = expected + 0.1 * class_loss("ce", COUNTS)(mask, torch.tensor([0]))
    expected = expected + 0.2 * class_loss("ce", COUNTS)(gender, torch.tensor([0]))
    torch.testing.assert_close(loss[:1], expected)
    head_outputs = outputs.detach()
    assert (auxiliary.logits(head_outputs) == plain.logits(head_outputs[:, : plain.width])).all()
    assert (auxiliary.weight(TABLE, 0.5) == plain.weight(TABLE, 0.5)).all()
    assert (auxiliary.stratum(TABLE) == plain.stratum(TABLE)).all()


def test_the_auxiliary_age_task_of_a_classifier_is_a_distribution() -> None:
    assert make_stage("gender", "ce", 0.3).width == 2 + 3 + make_stage("age-male", "dldl").width
    for name in ("joint", "flat"):
        with pytest.raises(FacecadeError, match="already trains on every task"):
            make_stage(name, "ce", 0.3)


def test_flat_stages_predict_the_18_classes() -> None:
    flat, pair = make_stage("flat", "ce"), make_stage("gender-age", "ce")
    assert flat.width == 18 and pair.width == 6
    np.testing.assert_array_equal(flat.target(TABLE), [0, np.nan, np.nan, 6 + 3 + 2])
    np.testing.assert_array_equal(pair.target(TABLE), [0, np.nan, np.nan, 5])
    assert flat.weight(TABLE, 0.0).tolist() == [1, 0, 0, 1]
    assert flat.columns[11] == "incorrect female >=60" and pair.columns[5] == "female >=60"


def test_a_stage_takes_the_outputs_of_its_tasks_from_the_joint_head(fitted: Path) -> None:
    run = open_run(fitted)
    names = make_stage("joint", run.recipe.stages["joint"].loss).outputs
    assert [names[row] for row in make_fit(run, "gender", 0).head_rows] == ["gender male", "gender female"]
    assert not make_fit(run, "joint", 0).head_rows
    joint, auxiliary = make_stage("joint", "dldl"), make_stage("age-male", "dldl", 0.2)
    assert sorted(auxiliary.outputs) == sorted(joint.outputs) and auxiliary.outputs[0] == "age Distribution 0"
    assert not set(make_stage("age-male", "corn").outputs) & set(joint.outputs), (
        "outputs of another head have other names"
    )
