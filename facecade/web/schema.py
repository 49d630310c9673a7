"""What `POST /predict` answers with, field by field: OpenAPI's documentation is made of this."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BoxModel(Model):
    """A face in pixels of its image, turned as EXIF says."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float = Field(description="How sure the detector is that it is a face.")
    landmarks: list[tuple[float, float]] = Field(
        [], description="x and y of both eyes, the nose and the mouth's corners, the image's left first."
    )


class RegressorModel(Model):
    """The age that is read for one gender."""

    gender: str
    years: float = Field(description="By the mean of the networks.")
    years_by_network: list[float]
    cuts: tuple[float, float] | None = Field(description="Learned cuts near 30 and 60, in years.")
    band: str | None = Field(description="What the cuts make of the years.")


class StagePredictionModel(Model):
    """What the networks of a stage say to one target."""

    stage: str
    target: str = Field(examples=["mask", "gender", "age"])
    prediction: str = Field(description="In words; of an age its band.")
    probability: float | None = Field(description="Of that answer; null where a stage tells years alone.")
    probability_by_network: list[float]
    years: float | None
    years_by_network: list[float]
    agree: int = Field(description="How many of the networks answer so.")
    networks: int


class ContributionsModel(Model):
    """Why one answer and not the one that comes next."""

    prediction: int
    runner_up: int
    runner_up_name: str
    margin: float = Field(description="How far the answer is ahead, in nats.")
    parts: dict[str, float] = Field(description="How much of the margin each part of the combiner adds.")


class FaceModel(Model):
    """What is answered for one face, and why."""

    box: BoxModel | None = Field(description="null where no face was found, and the image's centre was cut out.")
    prediction: int = Field(ge=0, lt=N_CLASSES, description="6·mask + 3·gender + band.")
    name: str = Field(examples=["wear female 30-59"])
    probability: list[float] = Field(description="Of the 18 classes.", min_length=N_CLASSES, max_length=N_CLASSES)
    mask: dict[str, float] = Field(description=f"Probability of {', '.join(MASKS)}.")
    gender: dict[str, float] = Field(description=f"Probability of {', '.join(GENDERS)}.")
    band: dict[str, float] = Field(description=f"Probability of {', '.join(BANDS)}.")
    age: float | None = Field(description="In years, as `infer` gives it; null where no stage knows years.")
    age_if_male: float | None
    age_if_female: float | None
    regressors: list[RegressorModel]
    stage_predictions: list[StagePredictionModel]
    least_confident: StagePredictionModel = Field(description="Of the sayings, the one with the lowest probability.")
    most_disagreement: StagePredictionModel | None = Field(
        description="That on which networks disagree most; null where all agree."
    )
    contributions: ContributionsModel | None = Field(description="null where the way of combining adds nothing up.")


class ExplanationModel(Model):
    """An image's faces, the one that `infer` answers for first."""

    size: tuple[int, int] = Field(description="Height and width in pixels.")
    flag: str = Field(description="`no-face`, `trained-on`, `pseudo-labelled`, several, or nothing.")
    method: str = Field(description="How the stages are combined.")
    faces: list[FaceModel]


class ErrorModel(Model):
    """What is wrong, in a sentence, and what to do."""

    status: int = Field(description="HTTP's status for it.")
    message: str
    hint: str


class ResultModel(Model):
    """One image: its explanation, or why there is none."""

    name: str
    explanation: ExplanationModel | None = None
    error: ErrorModel | None = None


class PredictionsModel(Model):
    """Of every image in the order given; one that is refused does not spoil the others."""

    results: list[ResultModel]


class ProblemModel(Model):
    """Why nothing was answered. results: where every image was refused, each with its reason."""

    error: ErrorModel
    results: list[ResultModel] = []


class HealthModel(Model):
    """That the process is up, what it takes, and whether it can show where networks look."""

    status: str
    megabytes: float
    pixels: int
    files: int
    attention: bool
