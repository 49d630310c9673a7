"""Several tasks on one backbone, a loss on each (multi-task learning, Caruana 1997, doi:10.1023/A:1007379606734).

A backbone that is trained on mask, gender and age learns more about faces than from one of them. The joint stage
predicts all three, and other stages may start from it (`weights = "stage:joint"`). A stage with auxiliary tasks is
trained on the others too (`auxiliary = 0.2`) and predicts its own target only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from facecade.base.errors import FacecadeError
from facecade.stages import classifiers
from facecade.stages.age import AgeRegressor
from facecade.stages.stage import Criterion, Stage
from facecade.training.losses import is_age_loss

LOSS_WEIGHTS = {"mask": 0.5, "gender": 1.0, "age": 1.0}
"""Weight of each task's loss. The mask is the easiest of the three and needs the least."""


@dataclass(frozen=True)
class Task:
    """One of several tasks of a model."""

    name: str
    stage: Stage
    loss_weight: float


def make_task(name: str, loss: str, loss_weight: float = 1.0) -> Task:
    """The task `mask`, `gender` or `age`; with a classification loss, age is predicted as a band."""
    stages = {
        "mask": classifiers.mask,
        "gender": classifiers.gender,
        "age": (lambda text: AgeRegressor("age", None, text)) if is_age_loss(loss) else classifiers.band,
    }
    return Task(name, stages[name](loss), loss_weight * LOSS_WEIGHTS[name])


class MultiTask(Stage):
    """The heads of several tasks, concatenated. A row without one of the labels is used for the other tasks."""

    def __init__(self, name: str, tasks: Sequence[Task]) -> None:
        self.name, self.tasks = name, tuple(tasks)
        self.widths = [task.stage.width for task in self.tasks]
        self.outputs = tuple(output for task in self.tasks for output in task.stage.outputs)
        self.learns_years = any(task.stage.learns_years for task in self.tasks)

    def criterion(self, cap: float | None, target: np.ndarray) -> Criterion:
        losses = [
            _of_known(task.stage.criterion(cap, column), complete=not np.isnan(column).any())
            for task, column in zip(self.tasks, target.T, strict=True)
        ]

        def total(outputs: Tensor, target: Tensor) -> Tensor:
            result = torch.zeros(len(outputs), device=outputs.device)
            of_tasks = zip(self.tasks, losses, outputs.split(self.widths, 1), target.unbind(1), strict=True)
            for task, loss, logits, task_target in of_tasks:
                result = result + task.loss_weight * loss(logits, task_target)
            return result

        return total

    def target(self, table: pd.DataFrame) -> np.ndarray:
        """The target of each task for each row, float32 (N, T); NaN if unknown."""
        return np.column_stack([task.stage.target(table) for task in self.tasks])


class Joint(MultiTask):
    """Predicts mask, gender and age.

    loss: of the three, for example `ce | ce | dldl`; a single one is for age, with cross-entropy for the others.
    """

    def __init__(self, loss: str) -> None:
        losses = [text.strip() for text in loss.split("|")]
        if len(losses) not in (1, len(LOSS_WEIGHTS)):
            raise FacecadeError(f"'{loss}' is not a loss of the joint stage", "write ce | ce | dldl: mask, gender, age")
        if len(losses) == 1:
            losses = ["ce", "ce", losses[0]]
        super().__init__("joint", [make_task(name, text) for name, text in zip(LOSS_WEIGHTS, losses, strict=True)])
        self.columns = tuple(f"{task.name}.{column}" for task in self.tasks for column in task.stage.columns)
        self.measures = tuple(f"{task.name} {measure}" for task in self.tasks for measure in task.stage.measures)

    def labels(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        return {task.name: task.stage.target(table) for task in self.tasks}

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return np.max([task.stage.weight(table, other_gender) for task in self.tasks], axis=0).astype(np.float32)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        strata = np.column_stack([task.stage.stratum(table) for task in self.tasks])
        return np.unique(strata, axis=0, return_inverse=True)[1].reshape(-1)

    def logits(self, outputs: Tensor) -> Tensor:
        pieces = zip(self.tasks, outputs.split(self.widths, 1), strict=True)
        return torch.cat([task.stage.logits(piece) for task, piece in pieces], 1)

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        ends = np.cumsum([len(task.stage.columns) for task in self.tasks])
        pieces = np.split(logits, ends[:-1], axis=1)
        scores = [(task.name, task.stage.score(piece, table)) for task, piece in zip(self.tasks, pieces, strict=True)]
        return {f"{name} {measure}": value for name, score in scores for measure, value in score.items()}


class WithAuxiliaryTasks(MultiTask):
    """A stage that is trained on the other tasks too, and predicts its own target only."""

    def __init__(self, stage: Stage, loss_weight: float) -> None:
        own = "age" if isinstance(stage, AgeRegressor) else stage.name
        losses = {"mask": "ce", "gender": "ce", "age": "dldl"}
        others = [make_task(name, loss, loss_weight) for name, loss in losses.items() if name != own]
        super().__init__(stage.name, [Task(own, stage, 1.0), *others])
        self.own, self.columns, self.measures = stage, stage.columns, stage.measures

    def labels(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        return self.own.labels(table)

    def weight(self, table: pd.DataFrame, other_gender: float) -> np.ndarray:
        return self.own.weight(table, other_gender)

    def stratum(self, table: pd.DataFrame) -> np.ndarray:
        return self.own.stratum(table)

    def logits(self, outputs: Tensor) -> Tensor:
        return self.own.logits(outputs[:, : self.own.width])

    def score(self, logits: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
        return self.own.score(logits, table)


def _of_known(loss: Criterion, complete: bool) -> Criterion:
    """A task's loss, which does not see samples without a label; theirs is 0.

    complete: whether all training rows have the label. If not, the device is asked which samples of a batch have it: some losses
    are means over the batch.
    """

    def total(outputs: Tensor, target: Tensor) -> Tensor:
        known = ~target.isnan()
        if complete:  # validation rows may still lack it
            each = loss(outputs, target.nan_to_num())
            return torch.where(known, each, torch.zeros_like(each))
        each = loss(outputs[known], target[known])
        return torch.zeros(len(target), dtype=each.dtype, device=each.device).masked_scatter(known, each)

    return total
