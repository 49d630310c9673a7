"""One image explained: every face in it, what is answered, which stage said what, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from facecade.faces.detect import make_finder
from facecade.faces.labels import AXES, BAND_EDGES, BANDS, GENDERS, class_name
from facecade.inference.cascade import Cascade
from facecade.recipe import kind_of
from facecade.report.calibration import by_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StagePrediction:
    """What a stage's networks say to one target.

    target: `mask`, `gender`, `age`, or what else the stage's classes stand for. answer: in words; of an age its band.
    probability: of that answer, by the mean of what the networks say, and by each network; None and empty where a stage
    tells years alone. years: the same of an age. agree: how many of the networks answer so, of `networks`.
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
    """The age that is read for one gender, in years: by the mean of the networks, and by each. cuts: in years, learned out of
    fold, with the band that they give; None where no combiner cuts years."""

    gender: str
    years: float
    years_by_network: tuple[float, ...]
    cuts: tuple[float, float] | None
    band: str | None


@dataclass(frozen=True)
class ExplainedFace:
    """What a cascade answers for one face, and why.

    box: in the image; None where no face was found, and the centre was cut out. crop: uint8 (h, w, 3), RGB. answer: the
    class, with its name. probability: of the 18 classes; mask, gender, band: the same summed. age: in years, as `infer`
    gives it; None where no stage knows years. least_confident: of the sayings with a probability, that with the lowest;
    most_disagreement: that on which networks disagree most, None where all agree. contributions: None where the way of combining is no sum.
    """

    box: Box | None
    crop: np.ndarray = field(repr=False, compare=False)
    prediction: int
    name: str
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

    def json(self) -> dict[str, Any]:
        """Everything but the crop's pixels; the runner-up with its name."""
        said = asdict(replace(self, crop=np.empty(0)))
        del said["crop"]
        if self.contributions:
            said["contributions"]["runner_up_name"] = class_name(self.contributions.runner_up)
        return said


@dataclass(frozen=True)
class Explanation:
    """An image's faces, the one that `infer` answers for first.

    size: height and width in pixels. flag: how `infer` marks it, as `no-face`, `trained-on`. way: how the stages are combined.
    """

    size: tuple[int, int]
    flag: str
    method: str
    faces: tuple[ExplainedFace, ...]

    def json(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "flag": self.flag,
            "method": self.method,
            "faces": [face.json() for face in self.faces],
        }

    def _repr_html_(self) -> str:
        parts = []
        for number, face in enumerate(self.faces, 1):
            stages = pd.DataFrame([asdict(each) for each in face.stage_predictions])
            columns = ["stage", "target", "prediction", "probability", "years", "agree", "networks"]
            parts.append(
                f"<p>Face {number}: <b>{escape(face.name)}</b>, probability {face.probability[face.prediction]:.2f}</p>"
            )
            parts.append(stages[columns].to_html(index=False, na_rep="", float_format="{:.2f}".format))
            if face.contributions:
                nats = pd.Series(face.contributions.parts, name="nats towards it").to_frame()
                parts.append(nats.to_html(float_format="{:+.2f}".format))
        return "".join(parts)

    def plot(self) -> Figure:
        """Each face's crop, the probabilities, and the contributions, as a figure; needs matplotlib."""
        from facecade.plots import plot_explanation

        return plot_explanation(self)


class Explainer:
    """A fitted cascade that answers for single images and says why; whatever runs its networks."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.combiner, record = load_combiner(cascade.combiner)
        self.cuts: Mapping[str, tuple[float, float]] = {
            gender: (low, high) for gender, (low, high) in record["cuts"].items()
        }
        self.find = make_finder(cascade.face, cascade.nets)

    def __call__(self, image: np.ndarray, content: str = "") -> Explanation:
        """Explain every face of an image, or its centre where none is found.

        Args:
            image: uint8 (height, width, 3), RGB.
            content: the fingerprint of its file, by which what was learned from is told (faces/reader.py).
        """
        flags = [self.cascade.seen.get(content, "")]
        boxes: list[Box | None] = [*self.find(image)] or [None]
        if boxes == [None] and self.cascade.face.detector == "mtcnn":
            flags.insert(0, "no-face")
        crops = np.stack([crop(image, box, self.cascade.face) for box in boxes])
        networks = list(self.cascade.ensemble.predict_all(crops).values())
        faces = [
            self._face(box, crops[row], [stage_outputs.take(np.array([row])) for stage_outputs in networks])
            for row, box in enumerate(boxes)
        ]
        height, width = image.shape[:2]
        return Explanation((height, width), " ".join(flags).strip(), self.combiner.name, tuple(faces))

    def _face(self, box: Box | None, pixels: np.ndarray, networks: Sequence[StageOutputs]) -> ExplainedFace:
        """
        Args:
            networks: what those of each fold say, of one row.
        """
        stage_outputs = average_folds(networks)
        probability, predictions = self.combiner(stage_outputs)
        mask, gender, band = (
            dict(zip(AXES[axis], values[0].tolist(), strict=True)) for axis, values in by_axis(probability).items()
        )
        years = [*stage_outputs.age(), *stage_outputs.age_by_gender()[0]]
        stage_predictions = tuple(
            _stage_predictions(stage_outputs, networks, self.cuts, max(gender, key=lambda name: gender[name]))
        )
        split = min(stage_predictions, key=lambda said: said.agree / said.networks)
        return ExplainedFace(
            box=box,
            crop=pixels,
            prediction=int(predictions[0]),
            name=class_name(predictions[0]),
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
                stage_predictions, key=lambda said: 2 if said.probability is None else said.probability
            ),
            most_disagreement=split if split.agree < split.networks else None,
            contributions=margin_contributions(self.combiner, stage_outputs) if self.combiner.has_margin else None,
        )


def _regressors(
    stage_outputs: StageOutputs, networks: Sequence[StageOutputs], cuts: Mapping[str, tuple[float, float]]
) -> list[Regressor]:
    read = [each.years() for each in (stage_outputs, *networks)]
    if read[0] is None:
        return []
    years = np.concatenate([each for each in read if each is not None])
    return [
        Regressor(
            gender,
            float(years[0, place]),
            tuple(years[1:, place].tolist()),
            cuts.get(gender),
            _band(years[0, place], cuts[gender]) if gender in cuts else None,
        )
        for place, gender in enumerate(GENDERS)
    ]


def _stage_predictions(
    stage_outputs: StageOutputs,
    networks: Sequence[StageOutputs],
    cuts: Mapping[str, tuple[float, float]],
    gender: str,
) -> list[StagePrediction]:
    """What each stage says to each of its targets, of one row.

    Args:
        gender: as answered, whose cuts tell the band of years that no stage of one gender read.
    """
    said = []
    for stage, names in stage_outputs.columns.items():
        logits = np.concatenate([each.logits[stage] for each in (stage_outputs, *networks)])
        for target, places in _targets(stage, names).items():
            own = kind_of(stage).removeprefix("age-") if kind_of(stage) in AGE_STAGES else gender
            words = [names[place].removeprefix(f"{target}.") for place in places]
            said.append(_stage_prediction(stage, target, words, logits[:, places], cuts.get(own, BAND_EDGES)))
    return said


def _targets(stage: str, names: Sequence[str]) -> dict[str, list[int]]:
    """What a stage is asked, and the places of its logits that answer it."""
    if any("." in name for name in names):
        asked = [name.partition(".")[0] for name in names]
        return {
            target: [place for place, each in enumerate(asked) if each == target] for target in dict.fromkeys(asked)
        }
    kind = kind_of(stage)
    target = {"flat": "class", "gender-age": "gender, age"}.get(kind, "age" if kind in AGE_STAGES else kind)
    return {target: list(range(len(names)))}


def _stage_prediction(
    stage: str, target: str, words: Sequence[str], logits: np.ndarray, cuts: tuple[float, float]
) -> StagePrediction:
    """
    Args:
        logits: float (1 + networks, C): their mean's, and each one's.
    """
    years = logits[:, 0] if words[0] == "years" else None
    if years is None:
        probability, predictions = softmax(logits, axis=1), [words[place] for place in logits.argmax(1)]
    elif len(words) > 1:
        words, probability = BANDS, bands_from_odds(logits[:, 1:])
        predictions = [words[place] for place in probability.argmax(1)]
    else:
        words, probability, predictions = BANDS, None, [_band(value, cuts) for value in years]
    prediction = predictions[0]
    sure = () if probability is None else probability[:, list(words).index(prediction)].tolist()
    return StagePrediction(
        stage,
        target,
        prediction,
        sure[0] if sure else None,
        tuple(sure[1:]),
        None if years is None else float(years[0]),
        () if years is None else tuple(years[1:].tolist()),
        predictions[1:].count(prediction),
        len(predictions) - 1,
    )


def _band(years: float, cuts: tuple[float, float]) -> str:
    return BANDS[int(band_by_cuts(np.array(years), cuts))]
