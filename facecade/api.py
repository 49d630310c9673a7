"""The Python API: fit a cascade, open a run, load what predicts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from facecade import pipeline, shipped
from facecade.base.choices import Device, Engine, EnsembleKind, Precision
from facecade.base.machine import Machine, cores
from facecade.faces.table import read_source
from facecade.inference.cascade import Cascade as Networks
from facecade.inference.explain import Explainer, Explanation
from facecade.inference.loading import load_cascade
from facecade.predictions import Prediction, Predictions
from facecade.runs.describe import describe
from facecade.runs.prepare import Beginning, prepare_run
from facecade.runs.run import open_run as read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | Path

AnImage = str | Path | Image.Image | np.ndarray
"""A file, a PIL image, or pixels, uint8 (height, width, 3), RGB."""

TAKEN = "a path, a PIL image, a uint8 array (height, width, 3), a list of these, or a folder"


def fit(
    data: PathLike,
    recipe: PathLike = "quick",
    artifacts: PathLike = "artifacts",
    *,
    settings: Sequence[str] = (),
    corrections: Sequence[PathLike] = (),
    extra: PathLike | None = None,
    skip_bad: bool = False,
    device: Device = "auto",
    jobs: int = 0,
) -> Run:
    """Train all stages of a recipe and stack them; the same run folder as `fit-stage all` and `fit-meta` make.

    Called again with the same arguments after it was stopped, it goes on where it was.

    Args:
        data: a folder or a manifest CSV, as `check` takes it.
        recipe: a name, as `quick`, or a file.
        artifacts: folder of the run.
        settings: changes of the recipe, each `key=value`, as `"stages.mask.epochs=2"`.
        corrections: CSV files of label corrections.
        extra: labelled images to train on that are never scored.
        skip_bad: go on without bad rows and files.
        jobs: fits at once; 0 = as many as there are cores.

    Raises:
        FacecadeError: bad data, a wrong key, fits that failed; `error.hint` says what to do.
    """
    machine = Machine(device, jobs)
    beginning = Beginning(
        Path(data), [Path(each) for each in corrections], extra=Path(extra) if extra else None, skip_bad=skip_bad
    )
    file = shipped.find("recipe", str(recipe))
    run, stages = prepare_run(Path(artifacts), beginning, file, ["all"], settings, workers=machine.workers)
    pipeline.fit_stage(run, stages, run.recipe.fits, machine, resume=True)
    if run.combiner_state() != "fitted":
        pipeline.fit_meta(run)
    return Run(Path(artifacts))


def open_run(artifacts: PathLike = "artifacts") -> Run:
    """A run that was begun before; raises FacecadeError where there is none."""
    read_run(Path(artifacts))
    return Run(Path(artifacts))


def load(
    artifacts: PathLike = "artifacts",
    *,
    engine: Engine = "auto",
    precision: Precision = "auto",
    device: Device = "auto",
    ensemble: EnsembleKind | None = None,
) -> Cascade:
    """A fitted cascade, from the folder of a run or of an export; its networks are loaded once and kept.

    Args:
        engine: what runs the networks. `auto`: the fastest that is known of the run; torch where nothing is exported yet.
        ensemble: which networks of each stage run, where not those that the recipe names.

    Raises:
        FacecadeError: neither a run nor an export, or one that is not fitted.
    """
    machine = Machine(device, engine=engine, precision=precision)
    return Cascade(load_cascade(Path(artifacts), machine, images=1, ensemble=ensemble))


class Run:
    """A run's folder: what is fitted, and how good it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"<Run {self.folder}>"

    def _repr_html_(self) -> str:
        return f"<p>Run in {self.folder}</p>" + self.leaderboard().to_html(index=False, float_format="{:.4f}".format)

    def fits(self) -> pd.DataFrame:
        """Every fold of every stage: `stage, fold, name, state, backbone, seconds`, and its scores on held-out people."""
        rows = describe(read_run(self.folder))["fits"]
        return pd.DataFrame([{**{k: v for k, v in row.items() if k != "score"}, **row["score"]} for row in rows])

    def leaderboard(self) -> pd.DataFrame:
        """The combining methods with their nested out-of-fold scores, the best first: `method, kept`, and of `macro-F1` and
        `accuracy` the value with its 95 % interval over people.

        Raises:
            FacecadeError: the run is not fitted.
        """
        record = self._record()
        rows = [
            {"method": name, "kept": name == record["method"], **_scores(scores)}
            for name, scores in record["nested"].items()
        ]
        return pd.DataFrame(rows).sort_values("macro-F1", ascending=False, ignore_index=True)

    def expected(self) -> pd.DataFrame:
        """Scores to expect on new people, with the choice of the method nested as well: `score, value, low, high`."""
        choice: dict[str, dict[str, float]] = self._record()["nested_choice"]
        return pd.DataFrame([{"score": name, **value} for name, value in choice.items()])

    def load(self, **options: Any) -> Cascade:
        """What predicts; options as of `facecade.load`."""
        return load(self.folder, **options)

    def plot(self) -> Figure:
        """The leaderboard as a chart; needs matplotlib."""
        from facecade.plots import plot_leaderboard

        return plot_leaderboard(self.leaderboard())

    def _record(self) -> dict[str, Any]:
        from facecade.base.artifact import read_json
        from facecade.runs.fits import require_fitted

        return read_json(require_fitted(read_run(self.folder)) / "meta.json")


class Cascade:
    """A fitted cascade that predicts."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def __repr__(self) -> str:
        return f"<Cascade of {', '.join(self._networks.ensemble.columns)}; engine {self.engine}>"

    @property
    def engine(self) -> str:
        """What runs the networks, as `openvino fp32`."""
        return " ".join(self._networks.made_of["engine"])

    def predict(self, images: AnImage | Sequence[AnImage], workers: int = 0) -> Predictions:
        """Predict one image or many.

        Args:
            images: a path, a PIL image, pixels as uint8 (height, width, 3), RGB, a list of these, or a folder: each of its
                images, as `infer` finds them.
            workers: threads that decode and find faces; 0 = cores.

        Returns:
            A prediction for each image, in order. An image that cannot be read is flagged, and stops nothing.

        Raises:
            TypeError: anything else.
            FacecadeError: a folder without images.
        """
        ids, given = _listed(images)
        rows: list[Prediction] = []
        for part in self._networks.predict(given, workers or cores()):
            for label, probability, years, box, flag in zip(
                part.label, part.probability, part.years, part.boxes, part.flags, strict=True
            ):
                age, if_male, if_female = (float(value) for value in years)
                place = len(rows)
                rows.append(
                    Prediction(
                        given[place], ids[place], int(label), probability, age, if_male, if_female, box, _flags(flag)
                    )
                )
        return Predictions(rows)

    def explain(self, image: AnImage) -> Explanation:
        """Every face of an image: what is predicted, by which stages, and what contributed to it.

        Raises:
            TypeError: not an image.
            DecodeError: a file that cannot be read.
        """
        from facecade.base.files import content_hash
        from facecade.faces.decode import decode

        given = _one(image)
        if isinstance(given, Path):
            return self._explainer(decode(given), content_hash(given))
        return self._explainer(given)

    def infer(self, data: PathLike, output: PathLike = "output", workers: int = 0) -> dict[str, Any]:
        """Predict a folder, manifest or file and write submission.csv and predictions.csv, as the command does; memory does
        not grow with the images, and a call that was stopped goes on.

        Returns:
            The summary that `infer --json` prints.
        """
        return self._networks.infer(read_source(Path(data)), Path(output), workers or cores())

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._networks)


def _flags(text: str) -> tuple[str, ...]:
    return (text,) if text.startswith("unreadable") else tuple(text.split())


def _scores(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        column: scores[name][part]
        for name in ("macro-F1", "accuracy")
        for column, part in ((name, "value"), (f"{name} low", "low"), (f"{name} high", "high"))
    }


def _listed(images: AnImage | Sequence[AnImage]) -> tuple[list[str], list[Path | np.ndarray]]:
    """What each image is called, and each as a path or pixels."""
    if isinstance(images, str | Path) and Path(images).is_dir():
        source = read_source(Path(images))
        return source.image_ids, [source.root / path for path in source.table["path"]]
    many = list(images) if isinstance(images, list | tuple) else [images]
    given = [_one(each) for each in many]  # type: ignore[arg-type]  # what is no image raises there
    return [str(each) if isinstance(each, Path) else f"image {place}" for place, each in enumerate(given)], given


def _one(image: AnImage) -> Path | np.ndarray:
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        raise TypeError(f"an array of pixels is uint8 (height, width, 3), RGB, not {image.dtype} {image.shape}")
    raise TypeError(f"an image is {TAKEN}, not {type(image).__name__}")
