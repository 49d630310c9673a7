"""The response models of the HTTP API; OpenAPI's documentation is generated from them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BoxModel(Model):
    """A face's box, in pixels of the image after EXIF rotation."""

    left: float
    top: float
    right: float
    bottom: float
    probability: float = Field(description="Of a face, by the detector.")
    landmarks: list[tuple[float, float]] = Field(
        [], description="x and y of both eyes, the nose and the mouth's corners, the image's left first."
    )


class RegressorModel(Model):
    """The predicted age for one gender."""

    gender: str
    years: float = Field(description="Mean of the networks.")
    years_by_network: list[float]
    cuts: tuple[float, float] | None = Field(description="Fitted cuts near 30 and 60, in years.")
    band: str | None = Field(description="Age band, by the cuts.")


class StagePredictionModel(Model):
    """What the networks of a stage predict for one target."""

    stage: str
    target: str = Field(examples=["mask", "gender", "age"])
    prediction: str = Field(description="In words; for an age its band.")
    probability: float | None = Field(description="Of the prediction; null where a stage predicts years only.")
    probability_by_network: list[float]
    years: float | None
    years_by_network: list[float]
    agree: int = Field(description="How many of the networks predict the same.")
    networks: int


class ContributionsModel(Model):
    """Why the predicted class and not the runner-up."""

    prediction: int
    runner_up: int
    runner_up_name: str
    margin: float = Field(description="How far the predicted class is ahead, in nats.")
    parts: dict[str, float] = Field(description="How much of the margin each part of the combiner adds.")


class FaceModel(Model):
    """The prediction for one face, and its explanation."""

    box: BoxModel | None = Field(description="null where no face was found and the image's center was cropped.")
    prediction: int = Field(ge=0, lt=N_CLASSES, description="6·mask + 3·gender + band.")
    name: str = Field(examples=["wear female 30-59"])
    flags: list[str] = Field(
        description="As `infer` gives them: `no-face`, `several-faces`, `unsure`, `trained-on`, `pseudo-labelled`."
    )
    confidence: float = Field(ge=0, le=1, description="Calibrated probability that the prediction is right.")
    probability: list[float] = Field(
        description="Of the 18 classes, by the combiner.", min_length=N_CLASSES, max_length=N_CLASSES
    )
    mask: dict[str, float] = Field(description=f"Probability of {', '.join(MASKS)}.")
    gender: dict[str, float] = Field(description=f"Probability of {', '.join(GENDERS)}.")
    band: dict[str, float] = Field(description=f"Probability of {', '.join(BANDS)}.")
    age: float | None = Field(description="In years, as `infer` gives it; null where no stage predicts years.")
    age_if_male: float | None
    age_if_female: float | None
    regressors: list[RegressorModel]
    stage_predictions: list[StagePredictionModel]
    least_confident: StagePredictionModel = Field(description="The stage prediction with the lowest probability.")
    most_disagreement: StagePredictionModel | None = Field(
        description="The stage prediction on which most networks disagree; null where all agree."
    )
    contributions: ContributionsModel | None = Field(description="null where the combining method is not a sum.")


class ExplanationModel(Model):
    """An image's faces; the first is the one that `infer` predicts."""

    size: tuple[int, int] = Field(description="Height and width in pixels.")
    flag: str = Field(description="The flags of the largest face, with spaces between.")
    detects: bool = Field(description="Whether the run looks for faces.")
    method: str = Field(description="How the stages are combined.")
    cuts: dict[str, tuple[float, float]] = Field(description="Learned limits between the bands in years, by gender.")
    faces: list[FaceModel]


class ErrorModel(Model):
    """The error in a sentence, and a hint what to do."""

    status: int = Field(description="HTTP status.")
    message: str
    hint: str


class ResultModel(Model):
    """One image: its explanation, or the error."""

    name: str
    explanation: ExplanationModel | None = None
    error: ErrorModel | None = None


class PredictionsModel(Model):
    """The results of all images, in the given order. A refused image does not affect the others."""

    results: list[ResultModel]


class ProblemModel(Model):
    """Why the request failed. results: if every image was refused, the error of each."""

    error: ErrorModel
    results: list[ResultModel] = []


class HealthModel(Model):
    """The server's status and limits, and whether it computes attention maps."""

    status: str
    megabytes: float
    files: int
    attention: bool
