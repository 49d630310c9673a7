"""Explains one image: every face, its prediction, each stage's prediction, and the contributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from facecade.combiner.contributions import MarginContributions, margin_contributions
from facecade.combiner.cuts import band_by_cuts
from facecade.combiner.methods import load as load_combiner
from facecade.combiner.stage_outputs import AGE_STAGES, StageOutputs, average_folds, bands_from_odds
from facecade.faces.crop import Box, crop
from facecade.faces.detect import make_all_faces_detector
from facecade.faces.labels import AXES, BAND_EDGES, BANDS, GENDERS, class_name
from facecade.faces.reader import MAX_FACES
from facecade.faces.words import prediction_in_words
from facecade.inference.cascade import Cascade
from facecade.recipe import kind_of
from facecade.report.calibration import by_axis
from facecade.report.predictions import face_flags

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StagePrediction:
    """What a stage predicts for one target.

    target: `mask`, `gender`, `age`, or what else the stage's classes stand for. prediction: in words; of an age its band.
    probability: of that prediction, by the networks' mean logits and by each network; None and empty where a stage
    predicts years only. years: of an age, likewise. agree: how many of the `networks` predict the same.
    """

    stage: str
    target: str
    prediction: str
    probability: float | None
    probability_by_network: tuple[float, ...]
    years: float | None
    years_by_network: tuple[float, ...]
    agree: int
    networks: int


@dataclass(frozen=True)
class Regressor:
    """The predicted age for one gender, in years: the networks' mean, and each network's.

    cuts: in years, fitted out of fold, and the band that they give; None where the combiner has no cuts.
    """

    gender: str
    years: float
    years_by_network: tuple[float, ...]
    cuts: tuple[float, float] | None
    band: str | None


@dataclass(frozen=True)
class ExplainedFace:
    """The prediction for one face, and its explanation.

    box: in the image; None where no face was found and the center was cropped. crop: uint8 (h, w, 3), RGB. prediction:
    the class, and name: its codes. flags, confidence: as `infer` gives them. probability: of the 18 classes; mask, gender, band: its sums. age: in years, as `infer`
    gives it; None where no stage predicts years. least_confident: the stage prediction with the lowest probability.
    most_disagreement: the one on which most networks disagree; None where all agree. contributions: None where the
    method has no margin.
    """

    box: Box | None
    crop: np.ndarray = field(repr=False, compare=False)
    prediction: int
    name: str
    flags: tuple[str, ...]
    confidence: float
    probability: tuple[float, ...]
    mask: dict[str, float]
    gender: dict[str, float]
    band: dict[str, float]
    age: float | None
    age_if_male: float | None
    age_if_female: float | None
    regressors: tuple[Regressor, ...]
    stage_predictions: tuple[StagePrediction, ...]
    least_confident: StagePrediction
    most_disagreement: StagePrediction | None
    contributions: MarginContributions | None

    @property
    def unsure(self) -> bool:
        """Whether the confidence is too low to answer."""
        return "unsure" in self.flags

    def json(self) -> dict[str, Any]:
        """All fields but the crop; the runner-up with its name."""
        record = asdict(replace(self, crop=np.empty(0)))
        del record["crop"]
        if self.contributions:
            record["contributions"]["runner_up_name"] = class_name(self.contributions.runner_up)
        return record


@dataclass(frozen=True)
class Explanation:
    """An image's faces; the first is the one that `infer` predicts.

    size: height and width in pixels. detects: whether the run looks for faces. method: how the stages are combined. cuts: learned limits between the bands in years, by gender.
    """

    size: tuple[int, int]
    detects: bool
    method: str
    cuts: Mapping[str, tuple[float, float]]
    faces: tuple[ExplainedFace, ...]

    @property
    def flag(self) -> str:
        """The flags of the largest face, as `infer` gives them, e.g. `no-face trained-on`."""
        return " ".join(self.faces[0].flags)

    def json(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "flag": self.flag,
            "detects": self.detects,
            "method": self.method,
            "cuts": {gender: list(cuts) for gender, cuts in self.cuts.items()},
            "faces": [face.json() for face in self.faces],
        }

    def _repr_html_(self) -> str:
        parts = []
        for number, face in enumerate(self.faces, 1):
            stages = pd.DataFrame([asdict(each) for each in face.stage_predictions])
            columns = ["stage", "target", "prediction", "probability", "years", "agree", "networks"]
            parts.append(
                f"<p>Face {number}: <b>{escape(prediction_in_words(face.prediction, face.age))}</b>, confidence"
                f" {face.confidence:.2f}{', unsure' if face.unsure else ''}</p>"
            )
            parts.append(stages[columns].to_html(index=False, na_rep="", float_format="{:.2f}".format))
            if face.contributions:
                nats = pd.Series(face.contributions.parts, name="nats towards the prediction").to_frame()
                parts.append(nats.to_html(float_format="{:+.2f}".format))
        return "".join(parts)

    def plot(self) -> Figure:
        """Each face's crop, the probabilities, and the contributions, as a figure; needs matplotlib."""
        from facecade.plots import plot_explanation

        return plot_explanation(self)


class Explainer:
    """A fitted cascade that predicts and explains single images, whichever engine runs its networks."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        # In fp32, as predictions are that are close: an explanation must be of the predicted class.
        self.ensemble = cascade.fallback.ensemble() if cascade.fallback else cascade.ensemble
        self.combiner, self.record = load_combiner(cascade.combiner)
        self.cuts: Mapping[str, tuple[float, float]] = {**self.record.cuts}
        self.find = make_all_faces_detector(cascade.face, cascade.nets)

    def __call__(self, image: np.ndarray, content: str = "", abstain: float | None = None) -> Explanation:
        """Explain every face of an image, or its center crop where none is found.

        Args:
            image: uint8 (height, width, 3), RGB.
            content: hash of its file, which shows whether it was trained on (faces/reader.py).
            abstain: as for `infer`.
        """
        found = self.find(image)
        boxes: list[Box | None] = [*found[:MAX_FACES]] or [None]
        crops = np.stack([crop(image, box, self.cascade.face) for box in boxes])
        networks = list(self.ensemble.predict_all(crops).values())
        known, sure_from = self.cascade.trained_on.get(content, ""), self.record.reliability.sure_from(abstain)

        def flags(box: Box | None, confidence: float) -> tuple[str, ...]:
            return face_flags(self.cascade.detects, box, len(found), confidence < sure_from, known)

        faces = [
            self._face(box, crops[row], [stage_outputs.take(np.array([row])) for stage_outputs in networks], flags)
            for row, box in enumerate(boxes)
        ]
        size = (image.shape[0], image.shape[1])
        return Explanation(size, self.cascade.detects, self.combiner.name, self.cuts, tuple(faces))

    def _face(
        self,
        box: Box | None,
        pixels: np.ndarray,
        networks: Sequence[StageOutputs],
        flags: Callable[[Box | None, float], tuple[str, ...]],
    ) -> ExplainedFace:
        """
        Args:
            networks: each fold's stage outputs, of one row. flags: of a face with this box and confidence.
        """
        stage_outputs = average_folds(networks)
        probability, predictions = self.combiner(stage_outputs)
        confidence = float(self.record.reliability.confidence(probability[0, predictions[0]]))
        mask, gender, band = (
            dict(zip(AXES[axis], values[0].tolist(), strict=True)) for axis, values in by_axis(probability).items()
        )
        years = [*stage_outputs.age(), *stage_outputs.age_by_gender()[0]]
        stage_predictions = tuple(
            _stage_predictions(stage_outputs, networks, self.cuts, max(gender, key=lambda name: gender[name]))
        )
        split = min(stage_predictions, key=lambda each: each.agree / each.networks)
        return ExplainedFace(
            box=box,
            crop=pixels,
            prediction=int(predictions[0]),
            name=class_name(predictions[0]),
            flags=flags(box, confidence),
            confidence=confidence,
            probability=tuple(probability[0].tolist()),
            mask=mask,
            gender=gender,
            band=band,
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in zip(("age", "age_if_male", "age_if_female"), years, strict=True)
            },
            regressors=tuple(_regressors(stage_outputs, networks, self.cuts)),
            stage_predictions=stage_predictions,
            least_confident=min(
                stage_predictions, key=lambda each: 2 if each.probability is None else each.probability
            ),
            most_disagreement=split if split.agree < split.networks else None,
            contributions=margin_contributions(self.combiner, stage_outputs) if self.combiner.has_margin else None,
        )


def _regressors(
    stage_outputs: StageOutputs, networks: Sequence[StageOutputs], cuts: Mapping[str, tuple[float, float]]
) -> list[Regressor]:
    predicted = [each.years() for each in (stage_outputs, *networks)]
    if predicted[0] is None:
        return []
    years = np.concatenate([each for each in predicted if each is not None])
    return [
        Regressor(
            gender,
            float(years[0, column]),
            tuple(years[1:, column].tolist()),
            cuts.get(gender),
            _band(years[0, column], cuts[gender]) if gender in cuts else None,
        )
        for column, gender in enumerate(GENDERS)
    ]


def _stage_predictions(
    stage_outputs: StageOutputs,
    networks: Sequence[StageOutputs],
    cuts: Mapping[str, tuple[float, float]],
    gender: str,
) -> list[StagePrediction]:
    """Each stage's prediction for each of its targets, of one row.

    Args:
        gender: the predicted one; its cuts give the band for years of a stage that is not of one gender.
    """
    predictions = []
    for stage, names in stage_outputs.columns.items():
        logits = np.concatenate([each.logits[stage] for each in (stage_outputs, *networks)])
        for target, columns in _targets(stage, names).items():
            cuts_of = kind_of(stage).removeprefix("age-") if kind_of(stage) in AGE_STAGES else gender
            words = [names[column].removeprefix(f"{target}.") for column in columns]
            limits = cuts.get(cuts_of, BAND_EDGES)
            predictions.append(_stage_prediction(stage, target, words, logits[:, columns], limits))
    return predictions


def _targets(stage: str, names: Sequence[str]) -> dict[str, list[int]]:
    """A stage's targets, and the columns of the logits of each."""
    if any("." in name for name in names):
        targets = [name.partition(".")[0] for name in names]
        return {
            target: [column for column, each in enumerate(targets) if each == target]
            for target in dict.fromkeys(targets)
        }
    kind = kind_of(stage)
    target = {"flat": "class", "gender-age": "gender, age"}.get(kind, "age" if kind in AGE_STAGES else kind)
    return {target: list(range(len(names)))}


def _stage_prediction(
    stage: str, target: str, words: Sequence[str], logits: np.ndarray, cuts: tuple[float, float]
) -> StagePrediction:
    """
    Args:
        logits: float (1 + networks, C): their mean, then those of each network.
    """
    years = logits[:, 0] if words[0] == "years" else None
    if years is None:
        probability, predictions = softmax(logits, axis=1), [words[index] for index in logits.argmax(1)]
    elif len(words) > 1:
        words, probability = BANDS, bands_from_odds(logits[:, 1:])
        predictions = [words[index] for index in probability.argmax(1)]
    else:
        words, probability, predictions = BANDS, None, [_band(value, cuts) for value in years]
    prediction = predictions[0]
    confidence = () if probability is None else probability[:, list(words).index(prediction)].tolist()
    return StagePrediction(
        stage,
        target,
        prediction,
        confidence[0] if confidence else None,
        tuple(confidence[1:]),
        None if years is None else float(years[0]),
        () if years is None else tuple(years[1:].tolist()),
        predictions[1:].count(prediction),
        len(predictions) - 1,
    )


def _band(years: float, cuts: tuple[float, float]) -> str:
    return BANDS[int(band_by_cuts(np.array(years), cuts))]
