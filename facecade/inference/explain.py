"""One photograph explained: every face in it, what is answered, which stage said what, and what tipped it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from facecade.combiner import fit as combination
from facecade.combiner.contributions import Tipped, tipped
from facecade.combiner.features import AGE_STAGES, Voices, bands_from_odds, mean
from facecade.combiner.thresholds import cut
from facecade.faces.crop import Box, crop
from facecade.faces.detect import make_finder
from facecade.faces.labels import AXES, BAND_EDGES, BANDS, GENDERS, class_name
from facecade.inference.cascade import Cascade
from facecade.recipe import kind_of
from facecade.report.calibration import by_axis


@dataclass(frozen=True)
class Saying:
    """What a stage's networks say to one question.

    question: `mask`, `gender`, `age`, or what else the stage's classes stand for. answer: in words; of an age its band.
    probability: of that answer, by the mean of what the networks say, and by each network; None and empty where a stage
    tells years alone. years: the same of an age. agree: how many of the networks answer so, of `networks`.
    """

    stage: str
    question: str
    answer: str
    probability: float | None
    probability_by_network: tuple[float, ...]
    years: float | None
    years_by_network: tuple[float, ...]
    agree: int
    networks: int


@dataclass(frozen=True)
class Regressor:
    """The age that is read for one gender, in years: by the mean of the networks, and by each. cuts: in years, learned out of
    fold, with the band that they give; None where no combination cuts years."""

    gender: str
    years: float
    years_by_network: tuple[float, ...]
    cuts: tuple[float, float] | None
    band: str | None


@dataclass(frozen=True)
class ExplainedFace:
    """What a cascade answers for one face, and why.

    box: in the photograph; None where no face was found, and the centre was cut out. crop: uint8 (h, w, 3), RGB. answer: the
    class, with its name. probability: of the 18 classes; mask, gender, band: the same summed. age: in years, as `infer`
    gives it; None where no stage knows years. least_sure: of the sayings with a probability, that with the lowest;
    most_split: that on which networks disagree most, None where all agree. tipped: None where the way of combining is no sum.
    """

    box: Box | None
    crop: np.ndarray = field(repr=False, compare=False)
    answer: int
    name: str
    probability: tuple[float, ...]
    mask: dict[str, float]
    gender: dict[str, float]
    band: dict[str, float]
    age: float | None
    age_if_male: float | None
    age_if_female: float | None
    regressors: tuple[Regressor, ...]
    sayings: tuple[Saying, ...]
    least_sure: Saying
    most_split: Saying | None
    tipped: Tipped | None

    def json(self) -> dict[str, Any]:
        """Everything but the crop's pixels; the runner-up with its name."""
        said = asdict(replace(self, crop=np.empty(0)))
        del said["crop"]
        if self.tipped:
            said["tipped"]["runner_up_name"] = class_name(self.tipped.runner_up)
        return said


@dataclass(frozen=True)
class Explanation:
    """A photograph's faces, the one that `infer` answers for first.

    size: height and width in pixels. flag: how `infer` marks it, as `no-face`, `trained-on`. way: how the stages are combined.
    """

    size: tuple[int, int]
    flag: str
    way: str
    faces: tuple[ExplainedFace, ...]

    def json(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "flag": self.flag,
            "way": self.way,
            "faces": [face.json() for face in self.faces],
        }


class Explainer:
    """A fitted cascade that answers for single photographs and says why; whatever runs its networks."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.combine, record = combination.load(cascade.combiner)
        self.cuts: Mapping[str, tuple[float, float]] = {
            gender: (low, high) for gender, (low, high) in record["cuts"].items()
        }
        self.find = make_finder(cascade.face, cascade.nets)

    def __call__(self, photograph: np.ndarray, content: str = "") -> Explanation:
        """Explain every face of a photograph, or its centre where none is found.

        Args:
            photograph: uint8 (height, width, 3), RGB.
            content: the fingerprint of its file, by which what was learned from is told (faces/look.py).
        """
        flags = [self.cascade.seen.get(content, "")]
        boxes: list[Box | None] = [*self.find(photograph)] or [None]
        if boxes == [None] and self.cascade.face.detector == "mtcnn":
            flags.insert(0, "no-face")
        crops = np.stack([crop(photograph, box, self.cascade.face) for box in boxes])
        networks = list(self.cascade.ensemble.hear_all(crops).values())
        faces = [
            self._face(box, crops[row], [voices.take(np.array([row])) for voices in networks])
            for row, box in enumerate(boxes)
        ]
        height, width = photograph.shape[:2]
        return Explanation((height, width), " ".join(flags).strip(), self.combine.name, tuple(faces))

    def _face(self, box: Box | None, pixels: np.ndarray, networks: Sequence[Voices]) -> ExplainedFace:
        """
        Args:
            networks: what those of each fold say, of one row.
        """
        voices = mean(networks)
        probability, answers = self.combine(voices)
        mask, gender, band = (
            dict(zip(AXES[axis], values[0].tolist(), strict=True)) for axis, values in by_axis(probability).items()
        )
        years = [*voices.age(), *voices.ages()[0]]
        sayings = tuple(_sayings(voices, networks, self.cuts, max(gender, key=lambda name: gender[name])))
        split = min(sayings, key=lambda said: said.agree / said.networks)
        return ExplainedFace(
            box=box,
            crop=pixels,
            answer=int(answers[0]),
            name=class_name(answers[0]),
            probability=tuple(probability[0].tolist()),
            mask=mask,
            gender=gender,
            band=band,
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in zip(("age", "age_if_male", "age_if_female"), years, strict=True)
            },
            regressors=tuple(_regressors(voices, networks, self.cuts)),
            sayings=sayings,
            least_sure=min(sayings, key=lambda said: 2 if said.probability is None else said.probability),
            most_split=split if split.agree < split.networks else None,
            tipped=tipped(self.combine, voices) if self.combine.graded else None,
        )


def _regressors(voices: Voices, networks: Sequence[Voices], cuts: Mapping[str, tuple[float, float]]) -> list[Regressor]:
    read = [each.years() for each in (voices, *networks)]
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


def _sayings(
    voices: Voices, networks: Sequence[Voices], cuts: Mapping[str, tuple[float, float]], gender: str
) -> list[Saying]:
    """What each stage says to each of its questions, of one row.

    Args:
        gender: as answered, whose cuts tell the band of years that no stage of one gender read.
    """
    said = []
    for stage, names in voices.columns.items():
        logits = np.concatenate([each.logits[stage] for each in (voices, *networks)])
        for question, places in _questions(stage, names).items():
            own = kind_of(stage).removeprefix("age-") if kind_of(stage) in AGE_STAGES else gender
            words = [names[place].removeprefix(f"{question}.") for place in places]
            said.append(_saying(stage, question, words, logits[:, places], cuts.get(own, BAND_EDGES)))
    return said


def _questions(stage: str, names: Sequence[str]) -> dict[str, list[int]]:
    """What a stage is asked, and the places of its logits that answer it."""
    if any("." in name for name in names):
        asked = [name.partition(".")[0] for name in names]
        return {
            question: [place for place, each in enumerate(asked) if each == question]
            for question in dict.fromkeys(asked)
        }
    kind = kind_of(stage)
    question = {"flat": "class", "gender-age": "gender, age"}.get(kind, "age" if kind in AGE_STAGES else kind)
    return {question: list(range(len(names)))}


def _saying(stage: str, question: str, words: Sequence[str], logits: np.ndarray, cuts: tuple[float, float]) -> Saying:
    """
    Args:
        logits: float (1 + networks, C): their mean's, and each one's.
    """
    years = logits[:, 0] if words[0] == "years" else None
    if years is None:
        probability, answers = softmax(logits, axis=1), [words[place] for place in logits.argmax(1)]
    elif len(words) > 1:
        words, probability = BANDS, bands_from_odds(logits[:, 1:])
        answers = [words[place] for place in probability.argmax(1)]
    else:
        words, probability, answers = BANDS, None, [_band(value, cuts) for value in years]
    answer = answers[0]
    sure = () if probability is None else probability[:, list(words).index(answer)].tolist()
    return Saying(
        stage,
        question,
        answer,
        sure[0] if sure else None,
        tuple(sure[1:]),
        None if years is None else float(years[0]),
        () if years is None else tuple(years[1:].tolist()),
        answers[1:].count(answer),
        len(answers) - 1,
    )


def _band(years: float, cuts: tuple[float, float]) -> str:
    return BANDS[int(cut(np.array(years), cuts))]
