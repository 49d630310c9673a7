"""What the records of a run hold: meta.json of a fit, and of the combiner.

They are here, and not beside the code that writes them, because everything from training to reports uses them.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

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


Slope = Annotated[float, Field(ge=0.01, le=100)]

Offset = Annotated[float, Field(ge=-100, le=100)]

UNCHANGED = (1.0, 1.0, 0.0)
"""Calibration that changes no probability."""

EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1, whose log-odds are infinite."""


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


class Risk(Record):
    """What answering only predictions of some confidence promises (report/risk.py).

    confidence: the lowest that is answered. coverage: share of the images that are answered. error: share of wrong answers. bound: on that
    share for new people.
    """

    confidence: Probability
    coverage: Probability
    error: Probability
    bound: Probability


class Reliability(Record):
    """How often predictions are right, as measured on people who were held out.

    log_odds: a, b and c. Predictions whose class has the probability p are right with the log-odds a·ln p - b·ln(1 - p) + c: the
    beta calibration of Kull et al., AISTATS 2017; (1, 1, 0) changes nothing. risks: the most images answered first, and the highest bound.
    """

    log_odds: tuple[Slope, Slope, Offset] = UNCHANGED
    risks: Annotated[tuple[Risk, ...], Field(max_length=200)] = ()

    @model_validator(mode="after")
    def _descending(self) -> Reliability:
        for before, after in pairwise(self.risks):
            if not (
                before.confidence <= after.confidence
                and before.coverage >= after.coverage
                and before.bound > after.bound
            ):
                raise ValueError("risks must answer fewer images at each step, with a lower bound")
        return self

    def confidence(self, probability: Any) -> np.ndarray:
        """The calibrated probability that predictions are right, from the combiner's probability of their class; grows with it.
        Float of any shape; NaN stays."""
        p = np.clip(np.asarray(probability, float), EDGE, 1 - EDGE)
        a, b, c = self.log_odds
        return np.asarray(expit(a * np.log(p) - b * np.log1p(-p) + c))

    def answering(self, risk: float) -> Risk | None:
        """The most images that can be answered so that at most the share `risk` of the answers is wrong; None if that cannot be promised."""
        return next((each for each in self.risks if each.bound <= risk), None)

    def promise(self, risk: float) -> dict[str, Any]:
        """`answering` as JSON, and where it is None the lowest risk that can be promised, if any."""
        answering = self.answering(risk)
        lowest = None if answering or not self.risks else self.risks[-1]
        return {
            "risk": risk,
            "answering": answering and answering.json_value(),
            "lowest": lowest and lowest.json_value(),
        }

    def sure_from(self, risk: float | None = None) -> float:
        """The confidence below which a prediction is unsure: where it is rather wrong than right or, with a risk, where that risk
        could not be promised any more. Infinite if it can never be."""
        if risk is None:
            return 0.5
        answering = self.answering(risk)
        return answering.confidence if answering else float("inf")


class CombinerSummary(Record):
    """What `fit-meta` measured: nested scores of every method and of the choice among them, and what they depend on.

    prior: frequencies of the classes. cuts: in years, by gender; empty where no stage predicts years. fits: digest of the fits that
    were combined.
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

    decision_weights: of the six groups. reliability: of its predictions. files: hash of each file beside the record that it names.
    """

    method: Text
    decision_weights: Annotated[list[float], Field(min_length=6, max_length=6)]
    reliability: Reliability
    files: dict[CombinerFile, Content]

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
