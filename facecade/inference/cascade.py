"""A fitted cascade that predicts images, whichever engine runs its networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.choices import FaceChoice
from facecade.base.errors import FacecadeError
from facecade.base.lock import locked
from facecade.base.origin import Claim
from facecade.base.program import command
from facecade.base.progress import Bar, note
from facecade.combiner.methods import UNSTACKED, FittedCombiner
from facecade.combiner.methods import load as load_combiner
from facecade.combiner.stage_outputs import StageOutputs, average_folds
from facecade.faces.boxes import BoxedImage, ImageFile, path_of
from facecade.faces.decode import DecodeError
from facecade.faces.labels import N_CLASSES
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.faces.problems import grouped
from facecade.faces.reader import AnyImage, FaceCrop, FaceReader
from facecade.faces.source import Source, require_files
from facecade.inference.ensemble import Ensemble
from facecade.inference.fallback import Fallback, recompute_close_calls
from facecade.inference.stream import BatchOutputs, regroup, stream
from facecade.recipe import Face
from facecade.records import CombinerRecord, Reliability
from facecade.report.predictions import (
    NO_PREDICTION,
    PREDICTIONS,
    SUBMISSION,
    UNANSWERED,
    FaceOfImage,
    PredictionFiles,
    face_flags,
    predictions_table,
)

IMAGES_PER_WRITE = 64
"""Images that `infer` combines and writes at once; the most work that is lost when it is stopped."""

MAX_NOTES = 10
"""Notes about rows and files that are printed."""


@dataclass(frozen=True)
class Cascade:
    """What `infer` needs.

    nets: MTCNN's networks; None where none is needed. combiner: folder of the fitted combiner.
    trained_on: flags of the images that were trained on, by content hash. made_of: what decides the predictions.
    folder: of the run, or of the export. fallback: the same networks in fp32, where `ensemble` runs in bf16.
    """

    face: Face
    nets: MTCNNNetworks | None
    ensemble: Ensemble
    combiner: Path
    trained_on: Mapping[str, str]
    made_of: Mapping[str, Any]
    folder: Path
    fallback: Fallback | None = None

    @cached_property
    def face_reader(self) -> FaceReader[FaceCrop]:
        """Decodes images, finds faces and crops them; its detector is made once."""
        return FaceReader(self.face, nets=self.nets)

    @cached_property
    def row_predictor(self) -> RowPredictor:
        """The fitted combiner, read once."""
        return RowPredictor.load(self, self.combiner)

    @property
    def detects(self) -> bool:
        """Whether a detector looks for faces."""
        return self.face.detector == "mtcnn"

    def predict(
        self,
        images: Sequence[AnyImage],
        workers: int,
        faces: FaceChoice = "largest",
        abstain: float | None = None,
    ) -> Iterator[Rows]:
        """Predict images in order, a few dozen at a time.

        Args:
            images: files, here or elsewhere, or pixels, uint8 (height, width, 3), RGB.
            workers: threads that decode images, find faces and crop them.
            faces: `all`: a row for each face of an image, the largest first.
            abstain: as for `infer`.
        """
        predictor = replace(self.row_predictor, abstain=abstain)
        for batch in self._batches(images, workers, [predictor], lambda _: None, faces):
            yield predictor.rows(batch)

    def infer(
        self,
        source: Source,
        output: Path,
        workers: int,
        unstacked: Mapping[str, Path] | None = None,
        allow_missing: bool = False,
        faces: FaceChoice = "largest",
        overwrite: bool = False,
        abstain: float | None = None,
    ) -> dict[str, Any]:
        """Predict every image of a source, in order; write predictions.csv, and submission.csv for an `info.csv`.

        An image that cannot be read gets no prediction, but a flag; in submission.csv the most frequent class of the training
        people. A call that was stopped resumes when it is repeated.

        Args:
            workers: threads that decode images, find faces and crop them.
            unstacked: folders for the predictions of further methods, each of `combiner.methods.UNSTACKED`.
            allow_missing: predict also where more than a few images do not exist.
            faces: `all`: a row for each face of an image, the largest first, and no submission.csv, which has a row for each image.
            overwrite: also replace predictions by another run, or of other data.
            abstain: flag as `unsure` whatever must not be answered if at most this share of the answers is to be wrong.

        Raises:
            FacecadeError: no image to predict; too many that do not exist; another process writes to the same folder, or it holds
                other predictions.
        """
        started = time.monotonic()
        if not allow_missing:
            require_files(source)
        _note_problems(source)
        images, ids = source.images, source.image_ids
        request = {
            **self.made_of,
            "root": str(source.root.resolve()),
            "faces": faces,
            "abstain": abstain,
            "images": [_described(name, image) for name, image in zip(ids, images, strict=True)],
        }
        combiners = {output: self.combiner}
        combiners |= {folder: self.combiner / UNSTACKED[method] for method, folder in (unstacked or {}).items()}
        predictors = {target: RowPredictor.load(self, folder, abstain) for target, folder in combiners.items()}
        with ExitStack() as locks:
            for target in predictors:
                locks.enter_context(locked(target))
            inputs: dict[str, Path | str] = {"run": self.folder, "data": source.path, "faces": faces}
            claims = {
                target: Claim(target, "predictions", [PREDICTIONS, SUBMISSION], inputs, overwrite)
                for target in predictors
            }
            files = {
                target: PredictionFiles(target, {**request, "combiner": each.record.json_value()})
                for target, each in predictors.items()
            }
            self._write(images, ids, workers, predictors, files, faces)
            fill, summaries = source.asks_for_submission and faces == "largest", []
            for target, each in predictors.items():
                summaries.append(files[target].close(len(images), each.most_frequent if fill else None))
                claims[target].write(each.record.signature)
        return {
            **summaries[0],
            "cuts": predictors[output].record.cuts,
            **_abstained(summaries[0], predictors[output].record.reliability, abstain),
            "detector": self.face.detector,
            "engine": " ".join(self.made_of["engine"]),
            "seconds": round(time.monotonic() - started, 1),
        }

    def _write(
        self,
        images: Sequence[ImageFile],
        ids: Sequence[str],
        workers: int,
        predictors: Mapping[Path, RowPredictor],
        files: Mapping[Path, PredictionFiles],
        faces: FaceChoice,
    ) -> None:
        """Predict the images that are not in the files yet, and append their rows."""
        done = min(file.images for file in files.values())
        if done:
            note(f"resuming after {done} of {len(images)} images")
        with Bar("infer", len(images) - done, "images") as bar:
            for batch in self._batches(images[done:], workers, list(predictors.values()), bar.advance, faces):
                image = done + batch.image
                for target, predictor in predictors.items():
                    files[target].add(image, predictor.rows(batch).table([ids[each] for each in image]))
                done = int(image[-1]) + 1

    def _batches(
        self,
        images: Sequence[AnyImage],
        workers: int,
        predictors: Sequence[RowPredictor],
        advance: Callable[[int], None],
        faces: FaceChoice,
    ) -> Iterator[BatchOutputs]:
        """Stage outputs of the images; in fp32 where bf16 could change one of the predictions."""

        def margin(stage_outputs: StageOutputs) -> np.ndarray:
            return np.min([each.combiner.margin(stage_outputs) for each in predictors], axis=0)  # type: ignore[no-any-return]

        batches = stream(images, self.face_reader, self.ensemble, workers, faces)
        for batch in regroup(batches, IMAGES_PER_WRITE, advance):
            yield recompute_close_calls(batch, margin, self.fallback) if self.fallback else batch


def _abstained(summary: Mapping[str, Any], reliability: Reliability, risk: float | None) -> dict[str, Any]:
    """For a summary: how many predictions are answered, and what that promises; nothing without a risk."""
    if risk is None:
        return {}
    unanswered = sum(summary["flags"].get(flag, 0) for flag in UNANSWERED)
    return {"abstain": {"answered": summary["rows"] - unanswered, **reliability.promise(risk)}}


def _note_problems(source: Source) -> None:
    """Note what is wrong with rows and files; raises FacecadeError where no row is left."""
    if source.table.empty:
        lines = "".join(f"\n  {line}" for line in grouped(source.problems))
        raise FacecadeError(f"{source.root} holds no image that can be predicted{lines}")
    prefix = "left out: " if source.labelled else ""
    messages = [*source.notes, *(f"{prefix}{line}" for line in grouped(source.problems, max_groups=None))]
    for message in messages[:MAX_NOTES]:
        note(message)
    if len(messages) > MAX_NOTES:
        note(f"and {len(messages) - MAX_NOTES} more; {command('check DATA')} lists them")


def _described(name: str, image: ImageFile) -> list[object]:
    """What decides the prediction of an image: its file, and the box of its face if that is given."""
    box = image.box.values if isinstance(image, BoxedImage) else []
    return [name, str(path_of(image)), *_size_and_time(path_of(image)), *box]


def _size_and_time(path: Path) -> tuple[int, int]:
    """Size and modification time of a file, which show whether it was replaced; zeros where it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Rows:
    """Predictions of N faces, one for each image or several.

    label: int (N,), NO_PREDICTION for images that cannot be read. probability: float (N, 18), NaN for those. confidence: float (N,),
    the probability that the label is right, NaN for those. years: float (N, 3), the age, the age if male and the age if female, NaN where unknown. faces, flags: of each row. image: int (N,), which of the
    batch's images each row is of. outputs: the stages' outputs for the rows that have a label; None where there are none.
    """

    label: np.ndarray
    probability: np.ndarray
    confidence: np.ndarray
    years: np.ndarray
    faces: Sequence[FaceOfImage]
    flags: Sequence[tuple[str, ...]]
    image: np.ndarray
    outputs: StageOutputs | None = None

    def table(self, ids: Sequence[str]) -> pd.DataFrame:
        """The columns of predictions.csv."""
        flags = [" ".join(flags) for flags in self.flags]
        return predictions_table(ids, self.label, self.probability, self.confidence, self.years, flags, self.faces)


@dataclass(frozen=True)
class RowPredictor:
    """Predicts rows of predictions.csv by a fitted combiner.

    trained_on: flags of the images that were trained on, by content hash. detects: whether a detector finds the faces. abstain: as
    for `Cascade.infer`.
    """

    combiner: FittedCombiner
    record: CombinerRecord
    trained_on: Mapping[str, str]
    detects: bool
    abstain: float | None = None

    @classmethod
    def load(cls, cascade: Cascade, folder: Path, abstain: float | None = None) -> RowPredictor:
        """With the combiner saved in a folder."""
        return cls(*load_combiner(folder), cascade.trained_on, cascade.detects, abstain)

    @property
    def most_frequent(self) -> int:
        """The most frequent class of the training people."""
        return int(np.argmax(self.record.prior))

    def rows(self, batch: BatchOutputs) -> Rows:
        """Predictions of a batch's faces."""
        count, readable = len(batch.faces), batch.readable
        probability, label = np.full((count, N_CLASSES), np.nan), np.full(count, NO_PREDICTION)
        years, outputs = np.full((count, 3), np.nan), None
        if readable.any():
            outputs = average_folds(list(batch.stage_outputs.values()))
            probability[readable], label[readable] = self.combiner(outputs)
            years[readable] = np.column_stack([outputs.age(), outputs.age_by_gender()])
        faces = [
            FaceOfImage(None, 0, None)
            if isinstance(face, DecodeError)
            else FaceOfImage(face.box, face.number if face.box else 0, face.faces)
            for face in batch.faces
        ]
        reliability = self.record.reliability
        confidence = reliability.confidence(probability[np.arange(count), label])
        unsure = confidence < reliability.sure_from(self.abstain)
        flags = [self._flags(face, each) for face, each in zip(batch.faces, unsure.tolist(), strict=True)]
        return Rows(label, probability, confidence, years, faces, flags, batch.image, outputs)

    def _flags(self, face: FaceCrop | DecodeError, unsure: bool) -> tuple[str, ...]:
        if isinstance(face, DecodeError):
            return ("no-file" if face.reason == "no such file" else f"unreadable: {face.reason}",)
        known = self.trained_on.get(face.content, "")
        return face_flags(self.detects, face.box, face.faces, unsure, known)
