"""The Python API: fit a cascade, open a run, load a fitted cascade."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from facecade import pipeline, shipped
from facecade.base.choices import Engine, EnsembleKind, FaceChoice, Precision
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.machine import Machine, default_workers, parse_device, parse_executor
from facecade.faces.boxes import ImageFile, path_of
from facecade.faces.reading import make_reading
from facecade.faces.source import read_source
from facecade.inference.cascade import Cascade as Networks
from facecade.inference.explain import Explainer, Explanation
from facecade.inference.loading import load_cascade, open_fitted
from facecade.inference.released import cascade_folder
from facecade.predictions import Prediction, Predictions
from facecade.records import CombinerRecord, read_combiner_record
from facecade.report.predictions import NO_PREDICTION
from facecade.runs.begin import DataOptions
from facecade.runs.describe import describe
from facecade.runs.fits import require_fitted
from facecade.runs.prepare import prepare_run
from facecade.runs.run import open_run as read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | Path

ImageLike = str | Path | Image.Image | np.ndarray
"""A file, a PIL image, or pixels, uint8 (height, width, 3), RGB."""

IMAGE_TYPES = "a path, a PIL image, a uint8 array (height, width, 3), a list of these, or a folder"


def fit(
    data: PathLike,
    recipe: PathLike = "quick",
    artifacts: PathLike = "artifacts",
    *,
    settings: Sequence[str] = (),
    corrections: Sequence[PathLike] = (),
    extra: PathLike | None = None,
    skip_bad: bool = False,
    same_person: Sequence[PathLike] = (),
    maps: Sequence[str] = (),
    layout: PathLike | None = None,
    person_pattern: str | None = None,
    device: str = "auto",
    jobs: int = 0,
    executor: str = "processes",
) -> Run:
    """Train all stages of a recipe and stack them, as `fit-stage all` and `fit-meta` do.

    A call that was stopped resumes when it is repeated with the same arguments.

    Args:
        data: a folder or a manifest CSV, as for `check`.
        recipe: a name, e.g. `quick`, or a file.
        artifacts: folder of the run.
        settings: changes of the recipe, each `key=value`, e.g. `"stages.mask.epochs=2"`.
        corrections: CSV files of label corrections.
        extra: labelled images to train on that are never scored.
        skip_bad: skip bad rows and files.
        same_person: CSV files of ids that are one person, or that only look alike.
        maps: what words of the data mean, each `FIELD.WORD=LABEL`, e.g. `"gender.M=male"`.
        layout: TOML that says what each folder of a folder of classes means.
        person_pattern: where an image's path names its person: a regular expression with one group.
        device: `auto`, `cpu`, `cuda`, `cuda:0,1` or `mps`.
        jobs: fits at once; 0 = number of cores, or of GPUs.
        executor: what runs the fits: `processes`, `ray`, `ray://ADDRESS` or `slurm` (docs/scale.md).

    Raises:
        FacecadeError: bad data, a wrong key, fits that failed; `error.hint` says what to do.
    """
    parse_device(device)
    machine = Machine(device, jobs, workers=default_workers(), executor=parse_executor(executor))
    options = DataOptions(
        [Path(each) for each in corrections],
        extra=Path(extra) if extra else None,
        skip_bad=skip_bad,
        same_person=[Path(each) for each in same_person],
        reading=make_reading(maps, Path(layout) if layout else None, person_pattern),
    )
    file = shipped.find("recipe", str(recipe))
    run, stages = prepare_run(Path(artifacts), Path(data), options, file, ["all"], settings, workers=machine.workers)
    pipeline.fit_stage(run, stages, run.recipe.fits, machine, resume=True)
    if run.combiner_state() != "fitted":
        pipeline.fit_meta(run)
    return Run(Path(artifacts))


def open_run(artifacts: PathLike = "artifacts") -> Run:
    """Open an existing run; raises FacecadeError where there is none."""
    read_run(Path(artifacts))
    return Run(Path(artifacts))


def load(
    artifacts: PathLike | None = None,
    *,
    engine: Engine = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    ensemble: EnsembleKind | None = None,
) -> Cascade:
    """Load a fitted cascade from the folder of a run or of an export; its networks are loaded once.

    Args:
        artifacts: the folder; None: `artifacts/`, or the released cascade where that holds neither a run nor an export.
        engine: what runs the networks. `auto`: the fastest, as measured for the run; torch where nothing is exported yet.
        ensemble: overrides the recipe's ensemble.

    Raises:
        FacecadeError: neither a run nor an export, or one that is not fitted; an unknown engine, precision, device or
            ensemble.
    """
    for kind, value, choices in (
        ("engine", engine, Engine),
        ("precision", precision, Precision),
        ("ensemble", ensemble or "mean", EnsembleKind),
    ):
        _require_choice(kind, value, choices)
    parse_device(device)
    machine = Machine(device, engine=engine, precision=precision)
    fitted = open_fitted(cascade_folder(artifacts), machine)
    return Cascade(load_cascade(fitted, machine, images=1, ensemble=ensemble))


class Run:
    """A run's folder: its fits and their scores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"<Run {self.folder}>"

    def _repr_html_(self) -> str:
        return f"<p>Run in {self.folder}</p>" + self.leaderboard().to_html(index=False, float_format="{:.4f}".format)

    def fits(self) -> pd.DataFrame:
        """Every fold of every stage: `stage, fold, name, state, backbone, seconds`, and its scores on held-out people."""
        rows = describe(read_run(self.folder))["fits"]
        return pd.DataFrame(
            [{**{key: value for key, value in row.items() if key != "score"}, **row["score"]} for row in rows]
        )

    def leaderboard(self) -> pd.DataFrame:
        """The combining methods with their nested out-of-fold scores, the best first: `method, kept`, and of `macro-F1` and
        `accuracy` the value with its 95 % interval over people.

        Raises:
            FacecadeError: the run is not fitted.
        """
        record = self._record()
        rows = [
            {"method": name, "kept": name == record.method, **_scores(scores)} for name, scores in record.nested.items()
        ]
        return pd.DataFrame(rows).sort_values("macro-F1", ascending=False, ignore_index=True)

    def expected(self) -> pd.DataFrame:
        """Scores to expect on new people, with the choice of the method nested too: `score, value, low, high`."""
        return pd.DataFrame([{"score": name, **value} for name, value in self._record().nested_choice.items()])

    def load(self, **options: Any) -> Cascade:
        """Load the fitted cascade; options as for `facecade.load`."""
        return load(self.folder, **options)

    def plot(self) -> Figure:
        """The leaderboard as a chart; needs matplotlib."""
        from facecade.plots import plot_leaderboard

        return plot_leaderboard(self.leaderboard())

    def _record(self) -> CombinerRecord:
        return read_combiner_record(require_fitted(read_run(self.folder)))


class Cascade:
    """A fitted cascade that predicts."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def __repr__(self) -> str:
        return f"<Cascade of {', '.join(self._networks.ensemble.columns)}; engine {self.engine}>"

    @property
    def engine(self) -> str:
        """The engine and its precision, e.g. `openvino fp32`."""
        return " ".join(self._networks.made_of["engine"])

    def predict(
        self,
        images: ImageLike | Sequence[ImageLike],
        workers: int = 0,
        faces: FaceChoice = "largest",
        abstain: float | None = None,
    ) -> Predictions:
        """Predict one image or many.

        Args:
            images: a path, a PIL image, pixels as uint8 (height, width, 3), RGB, a list of these, or a folder, whose
                images are found as by `infer`.
            workers: threads that decode and find faces; 0 = cores, at most 16.
            faces: `largest`, or `all`: a prediction for each face of an image.
            abstain: flag as `unsure` whatever must not be answered if at most this share of the answers is to be wrong; None: what is
                rather wrong than right.

        Returns:
            A prediction for each image, in order. An image that cannot be read gets a flag, not an error.

        Raises:
            TypeError: any other type.
            FacecadeError: a folder without images; an unknown choice of faces; `abstain` is not between 0 and 1.
        """
        _require_choice("faces", faces, FaceChoice)
        _require_risk(abstain)
        ids, inputs = _ids_and_inputs(images)
        rows: list[Prediction] = []
        done = 0
        for part in self._networks.predict(inputs, workers or default_workers(), faces, abstain):
            for row, face in enumerate(part.faces):
                index = done + int(part.image[row])
                image, label = inputs[index], int(part.label[row])
                age, if_male, if_female = part.years[row].tolist()
                rows.append(
                    Prediction(
                        image if isinstance(image, np.ndarray) else path_of(image),
                        ids[index],
                        None if label == NO_PREDICTION else label,
                        part.probability[row],
                        float(part.confidence[row]),
                        age,
                        if_male,
                        if_female,
                        face.box,
                        face.number,
                        face.faces,
                        part.flags[row],
                    )
                )
            done += int(part.image[-1]) + 1
        return Predictions(rows)

    def explain(self, image: ImageLike, abstain: float | None = None) -> Explanation:
        """Explain every face of an image: the prediction, each stage's prediction, and the contributions.

        Args:
            abstain: as for `predict`.

        Raises:
            TypeError: not an image.
            DecodeError: a file that cannot be read.
        """
        from facecade.base.files import content_hash
        from facecade.faces.decode import decode

        _require_risk(abstain)
        path_or_pixels, explain = _path_or_pixels(image), self._explainer
        if isinstance(path_or_pixels, Path):
            return explain(decode(path_or_pixels), content_hash(path_or_pixels), abstain)
        return explain(path_or_pixels, abstain=abstain)

    def infer(
        self,
        data: PathLike,
        output: PathLike = "output",
        workers: int = 0,
        allow_missing: bool = False,
        faces: FaceChoice = "largest",
        overwrite: bool = False,
        abstain: float | None = None,
    ) -> dict[str, Any]:
        """Predict a folder, manifest or file and write predictions.csv, and submission.csv for an info.csv, as the command does.

        Memory does not grow with the images. A call that was stopped resumes when it is repeated.

        Args:
            allow_missing: predict also where more than a few images do not exist.
            faces: `all`: a row for each face, and no submission.csv.
            overwrite: also replace predictions by another run, or of other data.
            abstain: as for `predict`.

        Returns:
            The summary that `infer --json` prints.
        """
        _require_choice("faces", faces, FaceChoice)
        _require_risk(abstain)
        source, workers = read_source(Path(data)), workers or default_workers()
        return self._networks.infer(source, Path(output), workers, None, allow_missing, faces, overwrite, abstain)

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._networks)


def _require_choice(kind: str, value: str, choices: Any) -> None:
    """Raises FacecadeError for a value that is none of a `Literal`."""
    if value not in get_args(choices):
        raise unknown_name(kind, value, get_args(choices))


def _require_risk(abstain: float | None) -> None:
    """Raises FacecadeError for a risk that is no share."""
    if abstain is not None and not 0 < abstain < 1:
        raise FacecadeError(f"abstain is {abstain}", "give a share of wrong answers between 0 and 1, e.g. 0.1")


def _scores(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        column: scores[name][part]
        for name in ("macro-F1", "accuracy")
        for column, part in ((name, "value"), (f"{name} low", "low"), (f"{name} high", "high"))
    }


def _ids_and_inputs(images: ImageLike | Sequence[ImageLike]) -> tuple[list[str], list[ImageFile | np.ndarray]]:
    """Each image's id, and each image as a file or pixels."""
    if isinstance(images, str | Path) and Path(images).is_dir():
        source = read_source(Path(images))
        return source.image_ids, [*source.images]
    many = list(images) if isinstance(images, list | tuple) else [images]
    inputs: list[ImageFile | np.ndarray] = [_path_or_pixels(each) for each in many]  # type: ignore[arg-type]  # raises for what is not an image
    return [str(each) if isinstance(each, Path) else f"image {index}" for index, each in enumerate(inputs)], inputs


def _path_or_pixels(image: ImageLike) -> Path | np.ndarray:
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        raise TypeError(f"pixels must be uint8 (height, width, 3), RGB, not {image.dtype} {image.shape}")
    raise TypeError(f"images must be {IMAGE_TYPES}, not {type(image).__name__}")
