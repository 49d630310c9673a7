"""What the records of a run hold: meta.json of a fit, and of the combiner.

They are here, and not beside the code that writes them, because everything from training to reports uses them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from facecade.base.artifact import Record, digest, read_record
from facecade.base.fields import Content, Count, Digest, PathText, Probability, Text, Versions, has_keys, one_of
from facecade.base.program import option
from facecade.faces.labels import GENDERS, N_CLASSES
from facecade.recipe import CombinerRecipe, StageName, StageRecipe

Score = Annotated[dict[Text, float], has_keys("value", "low", "high")]
"""A score with its 95 % interval, as `report.metrics.Interval.json` gives it."""

Scores = Annotated[
    dict[Text, Score], has_keys("macro-F1", "accuracy", "mask accuracy", "gender accuracy", "band accuracy")
]
"""By name, as `report.metrics.score` gives them."""

PerClass = Field(min_length=N_CLASSES, max_length=N_CLASSES)

ClassF1 = Annotated[list[float | None], PerClass]
"""F1 of every class; None for a class that is neither a label nor a prediction."""

Origin = Annotated[dict[Text, Text], has_keys("trained_on", "licence", "source")]
"""Where pretrained weights come from."""


class FitRecord(Record):
    """A fit: what was trained on what, and the hashes of the files beside the record, which exists only if they do.

    weights, outputs: of weights.safetensors and outputs.npz. weights_content: of the file that training started from.
    columns: names of the logits. score: on held-out people, by measure; empty where nobody was held out.
    """

    made_by: ClassVar[str] = "fit-stage STAGE"

    stage: StageName
    fold: Count
    signature: Digest
    folds_hash: Digest
    weights: Content
    outputs: Content
    seed: int
    recipe: StageRecipe
    columns: tuple[Text, ...]
    device: Text
    people: Count
    images: Count
    extra_data: Count
    epochs: Count
    seconds: float = Field(ge=0)
    bf16: bool = False
    pretrained: Origin | None = None
    weights_content: Content | None = None
    parameters: Count
    score: dict[Text, float]
    versions: Versions

    @classmethod
    def remake(cls, path: Path) -> str:
        return fit_command(path.parent)


CombinerFile = Annotated[str, Field(pattern=r"^(rule|nested|alignment-[A-Za-z0-9_-]+)\.npz$|^model\.json$")]


class CombinerSummary(Record):
    """What `fit-meta` measured: nested scores of every method and of the choice among them, and what they depend on.

    prior: frequencies of the classes. cuts: in years, by gender; empty where no stage predicts years. sure_from: the lowest
    confidence at which predictions are right at least as often as wrong (report/calibration.py); None if there is none. fits: digest of the fits that were combined.
    """

    made_by: ClassVar[str] = "fit-meta"

    nested: dict[Text, Scores]
    nested_choice: Scores
    simplest: Text
    gain_over_simplest: Score
    per_class_f1: ClassF1
    cuts: dict[Annotated[str, one_of(*GENDERS)], tuple[float, float]]
    images: Count
    people: Count
    prior: Annotated[list[Probability], PerClass]
    sure_from: Probability | None = 0.5
    fits: Digest
    folds_hash: Digest
    extra_data: list[PathText]
    seed: int
    recipe: CombinerRecipe
    seconds: float = Field(ge=0)
    versions: Versions

    @classmethod
    def remake(cls, path: Path) -> str:
        return combiner_command(path.parent)


class CombinerRecord(CombinerSummary):
    """A fitted combining method.

    decision_weights: of the six groups. files: hash of each file beside the record that it names.
    """

    method: Text
    decision_weights: Annotated[list[float], Field(min_length=6, max_length=6)]
    files: dict[CombinerFile, Content]

    def is_unsure(self, confidence: float) -> bool:
        """Whether predictions of this confidence are wrong more often than right, on people who were held out."""
        return self.sure_from is None or confidence < self.sure_from

    @property
    def signature(self) -> str:
        """Which fits and which combiner predict: predictions of the same signature are of the same run."""
        return digest([self.fits, self.method, self.decision_weights, self.files])


def read_fit_record(folder: Path) -> FitRecord:
    """The record in a fit's folder."""
    return read_record(folder / "meta.json", FitRecord)


def fit_command(folder: Path) -> str:
    """The command that fits again what is in a folder, `RUN/stages/STAGE/fold0` or `RUN/stages/STAGE/full`."""
    number = folder.name.removeprefix("fold")
    fold = f" --fold {number}" if number.isdigit() else ""
    return f"fit-stage {folder.parent.name}{fold}" + option("--artifacts", folder.parent.parent.parent, "artifacts")


def combiner_command(folder: Path) -> str:
    """The command that fits again the combiner in a folder, `RUN/combiner`."""
    return "fit-meta" + option("--artifacts", folder.parent, "artifacts")


def read_combiner_record(folder: Path) -> CombinerRecord:
    """The record in a combiner's folder."""
    return read_record(folder / "meta.json", CombinerRecord)
