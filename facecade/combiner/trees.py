"""XGBoost's trees as a record that is checked before anything reads them, and their prediction.

XGBoost trusts the sizes and indices in a file; a wrong one makes it read or write outside its memory. So only trees that are
consistent reach it, and no key that is not listed here. It is imported where it fits or explains: that takes longer than to predict
an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from facecade.base.artifact import Record, again
from facecade.base.errors import FacecadeError, first_line
from facecade.faces.labels import N_CLASSES
from facecade.records import combiner_command

if TYPE_CHECKING:
    import xgboost as xgb

LEAF, ROOT = -1, 2**31 - 1
"""The child of a leaf, and the parent of a root."""

Number = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
"""XGBoost writes some numbers as text."""

_FLOAT = r"-?[0-9]+(\.[0-9]+)?E-?[0-9]+"

Index = Annotated[int, Field(ge=LEAF, le=ROOT)]
Empty = Annotated[list[int], Field(max_length=0)]
Classes = Literal["18"]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class TreeParameters(Part):
    num_deleted: Number
    num_feature: Number
    num_nodes: Number
    size_leaf_vector: Literal["0", "1"]


class Tree(Part):
    """One tree: lists with a value for each node."""

    tree_param: TreeParameters
    id: Index
    left_children: list[Index]
    right_children: list[Index]
    parents: list[Index]
    split_indices: list[Annotated[int, Field(ge=0, lt=2**32)]]
    split_conditions: list[float]
    split_type: list[Literal[0]]
    default_left: list[Literal[0, 1]]
    base_weights: list[float]
    loss_changes: list[float]
    sum_hessian: list[float]
    categories: Empty
    categories_nodes: Empty
    categories_segments: Empty
    categories_sizes: Empty

    @model_validator(mode="after")
    def _consistent(self) -> Tree:
        nodes, features = int(self.tree_param.num_nodes), int(self.tree_param.num_feature)
        lists = [value for name, value in self if isinstance(value, list) and not name.startswith("categories")]
        if not nodes or any(len(each) != nodes for each in lists) or self.parents[0] != ROOT:
            raise ValueError(f"its lists do not describe a tree of {nodes} nodes")
        for node, children in enumerate(zip(self.left_children, self.right_children, strict=True)):
            if children == (LEAF, LEAF):
                continue
            # children come after their parent, so no path is endless
            own = all(node < child < nodes and self.parents[child] == node for child in children)
            if not own or len(set(children)) == 1:
                raise ValueError(f"node {node} has children that are not its own")
            if self.split_indices[node] >= features:
                raise ValueError(f"node {node} splits by a feature that does not exist")
        return self


class TreesParameters(Part):
    num_parallel_tree: Literal["1"]
    num_trees: Number


class TreesOfClasses(Part):
    """tree_info: class of each tree. iteration_indptr: number of the first tree of each round, then of all."""

    gbtree_model_param: TreesParameters
    trees: list[Tree]
    tree_info: list[Annotated[int, Field(ge=0, lt=N_CLASSES)]]
    iteration_indptr: list[Index]

    @model_validator(mode="after")
    def _consistent(self) -> TreesOfClasses:
        rounds, rest = divmod(len(self.trees), N_CLASSES)
        numbers = int(self.gbtree_model_param.num_trees), len(self.tree_info)
        first_trees = list(range(0, len(self.trees) + 1, N_CLASSES))
        ids = [tree.id for tree in self.trees]
        if rest or numbers != (len(self.trees),) * 2 or ids != list(range(len(self.trees))):
            raise ValueError(f"it has {len(self.trees)} trees in {rounds} rounds of {N_CLASSES} classes")
        if self.iteration_indptr != first_trees:
            raise ValueError("its rounds are not those of its trees")
        return self


class GradientBooster(Part):
    name: Literal["gbtree"]
    model: TreesOfClasses


class LearnerParameters(Part):
    base_score: Annotated[str, Field(pattern=rf"^(\[{_FLOAT}(,{_FLOAT}){{17}}\]|{_FLOAT})$", max_length=1000)]
    boost_from_average: Literal["0", "1"]
    num_class: Classes
    num_feature: Number
    num_target: Literal["1"]


class SoftmaxParameters(Part):
    num_class: Classes


class Objective(Part):
    name: Literal["multi:softprob"]
    softmax_multiclass_param: SoftmaxParameters


class Learner(Part):
    attributes: Annotated[dict[str, str], Field(max_length=0)]
    feature_names: list[Annotated[str, Field(max_length=200)]]
    feature_types: Annotated[list[str], Field(max_length=0)]
    gradient_booster: GradientBooster
    learner_model_param: LearnerParameters
    objective: Objective

    @model_validator(mode="after")
    def _consistent(self) -> Learner:
        numbers = {tree.tree_param.num_feature for tree in self.gradient_booster.model.trees}
        if numbers | {self.learner_model_param.num_feature} != {str(len(self.feature_names))}:
            raise ValueError("its trees have other features")
        return self


class Trees(Record):
    """model.json: XGBoost's trees for 18 classes."""

    model_config = ConfigDict(extra="ignore")
    made_by: ClassVar[str] = "fit-meta"
    max_bytes: ClassVar[int] = 64 << 20
    indent: ClassVar[int | None] = None

    learner: Learner
    version: Annotated[list[int], Field(min_length=3, max_length=3)]

    @classmethod
    def remake(cls, path: Path) -> str:
        return combiner_command(path.parent)

    @classmethod
    def of(cls, booster: xgb.Booster) -> Trees:
        """The trees of a booster."""
        return cls.model_validate_json(bytes(booster.save_raw("json")))

    def booster(self) -> xgb.Booster:
        """A booster with these trees; raises FacecadeError where this version of XGBoost cannot read them."""
        import xgboost as xgb

        try:
            return xgb.Booster(model_file=bytearray(self.model_dump_json().encode()))
        except xgb.core.XGBoostError as error:
            raise FacecadeError(f"XGBoost cannot read its trees: {first_line(error)}", again(self.made_by)) from None

    def margin(self, values: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The margins of the classes, as XGBoost adds them up in float32, tree by tree.

        Args:
            values: float32 (N, F), features; NaN where one is unknown. start: float32 (N, 18), the base margin.
        """
        nodes, margin = self._nodes, start.astype(np.float32)
        for first in range(0, len(values), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            for leaf in nodes.leaves(values[rows]).reshape(-1, N_CLASSES, len(values[rows])):  # a round at a time
                margin[rows] += leaf.T
        return margin

    @cached_property
    def _nodes(self) -> Nodes:
        return Nodes.of(self.learner.gradient_booster.model.trees)


ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Nodes:
    """All nodes of all trees, one after another. Children are numbers in these arrays; a leaf is its own child.

    roots: int64 (T,). feature, left, right: int64 (n,). threshold: float32 (n,), of a leaf its value. default_left: bool (n,), where an unknown
    value goes. depth: of the deepest tree.
    """

    roots: np.ndarray
    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray
    threshold: np.ndarray
    default_left: np.ndarray
    depth: int

    @classmethod
    def of(cls, trees: Sequence[Tree]) -> Nodes:
        sizes = [len(tree.parents) for tree in trees]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if sizes else np.empty(0, np.int64)
        own = np.arange(sum(sizes))
        first = np.repeat(roots, sizes)

        def joined(name: str) -> np.ndarray:
            return np.array([value for tree in trees for value in getattr(tree, name)])

        left, right = (
            np.where(children == LEAF, own, first + children)
            for children in (joined("left_children"), joined("right_children"))
        )
        depths = np.zeros(len(own), np.int64)
        for node, parent in enumerate(joined("parents")):  # parents come before their children
            if parent != ROOT:
                depths[node] = depths[first[node] + parent] + 1
        return cls(
            roots,
            joined("split_indices").astype(np.int64),
            left,
            right,
            joined("split_conditions").astype(np.float32),
            joined("default_left").astype(bool),
            int(depths.max(initial=0)),
        )

    def leaves(self, values: np.ndarray) -> np.ndarray:
        """The value of each tree's leaf for each row, float32 (T, N). Argument: float32 (N, F)."""
        node = np.repeat(self.roots[:, None], len(values), axis=1)
        rows = np.arange(len(values))
        for _ in range(self.depth):
            value = values[rows, self.feature[node]]
            goes_left = np.where(np.isnan(value), self.default_left[node], value < self.threshold[node])
            node = np.where(goes_left, self.left[node], self.right[node])
        return self.threshold[node]
