"""A fitted cascade that answers for photographs; whatever runs its networks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.base.progress import Bar, note
from facecade.combiner import fit as combination
from facecade.combiner.features import Voices, mean
from facecade.faces.decode import DecodeError
from facecade.faces.look import Look, Looker
from facecade.faces.mtcnn import Nets
from facecade.faces.table import Source
from facecade.inference.again import Exact, surely
from facecade.inference.ensemble import Ensemble
from facecade.inference.stream import Heard, gathered, stream
from facecade.recipe import Face
from facecade.report.predictions import AnswerFiles, predictions_table

AT_ONCE = 64
"""Photographs that the combiner answers for, and that are written, at once: what an `infer` that is stopped may lose."""


@dataclass(frozen=True)
class Cascade:
    """What `infer` needs.

    nets: MTCNN's networks; None where torch runs them, or none is needed. combiner: folder of the fitted combination. seen:
    photographs that were learned from, by content, and how each is marked. made_of: what decides the answers. exact: the same
    networks in fp32, where `ensemble` rounds.
    """

    face: Face
    nets: Nets | None
    ensemble: Ensemble
    combiner: Path
    seen: Mapping[str, str]
    made_of: Mapping[str, Any]
    exact: Exact | None = None

    def looker(self) -> Looker[Look]:
        """What sees the photographs."""
        return Looker(self.face, nets=self.nets)

    def infer(
        self, source: Source, output: Path, workers: int, also: Mapping[str, Path] | None = None
    ) -> dict[str, Any]:
        """Answer for every photograph of a source, in its order; write submission.csv and predictions.csv.

        A photograph that cannot be seen is answered with the most likely class of the training people, and flagged. Called
        again after it was stopped, it goes on where it was.

        Args:
            workers: threads that decode, find and cut.
            also: of `combiner.fit.UNSTACKED`, ways of combining whose answers are written as well, and to which folder.

        Raises:
            FacecadeError: no photograph to answer for.
        """
        started = time.monotonic()
        if source.table.empty:
            lines = "".join(f"\n  {problem}" for problem in source.problems)
            raise FacecadeError(f"{source.root} names no photograph that can be labelled{lines}")
        if source.labelled:
            for problem in source.problems:
                note(f"left out: {problem}")
        paths, ids = [source.root / path for path in source.table["path"]], source.image_ids
        asked = {
            **self.made_of,
            "root": str(source.root.resolve()),
            "photographs": [[name, str(path), *_state(path)] for name, path in zip(ids, paths, strict=True)],
        }
        wanted = {output: self.combiner}
        wanted |= {place: self.combiner / combination.UNSTACKED[way] for way, place in (also or {}).items()}
        answerers = {place: Answerer.load(self, folder) for place, folder in wanted.items()}

        def lead(voices: Voices) -> np.ndarray:
            return np.min([each.combine.lead(voices) for each in answerers.values()], axis=0)  # type: ignore[no-any-return]

        files = {place: AnswerFiles(place, {**asked, "combiner": each.record}) for place, each in answerers.items()}
        done = min(file.done for file in files.values())
        if done:
            note(f"going on after {done} of {len(paths)} photographs")
        with Bar("infer", len(paths) - done, "photographs") as bar:
            for heard in gathered(stream(paths[done:], self.looker(), self.ensemble, workers), AT_ONCE, bar.advance):
                heard = surely(heard, lead, self.exact) if self.exact else heard
                until = done + len(heard.looks)
                for place, answerer in answerers.items():
                    files[place].add(done, answerer(ids[done:until], heard))
                done = until
        summary = next(iter([file.close() for file in files.values()]))
        engine = " ".join(self.made_of["engine"])
        return {**summary, "engine": engine, "seconds": round(time.monotonic() - started, 1)}


def _state(path: Path) -> tuple[int, int]:
    """Size and time of a file, by which another under its name is told from it; zeros where there is none."""
    try:
        said = path.stat()
    except OSError:
        return 0, 0
    return said.st_size, said.st_mtime_ns


@dataclass(frozen=True)
class Answerer:
    """A fitted combination, and what it says where there is nothing to see."""

    combine: combination.Combination
    record: dict[str, Any]
    seen_before: Mapping[str, str]
    detects: bool

    @classmethod
    def load(cls, cascade: Cascade, folder: Path) -> Answerer:
        """The combination that is kept in a folder."""
        return cls(*combination.load(folder), cascade.seen, cascade.face.detector == "mtcnn")

    def __call__(self, ids: Sequence[str], heard: Heard) -> pd.DataFrame:
        """A row of predictions.csv for each photograph."""
        count, prior, seen = len(heard.looks), np.array(self.record["prior"], float), heard.seen
        probability, answers = np.tile(prior, (count, 1)), np.full(count, int(np.argmax(prior)))
        years = np.full((count, 3), np.nan)
        if seen.any():
            voices = mean(list(heard.voices.values()))
            probability[seen], answers[seen] = self.combine(voices)
            years[seen] = np.column_stack([voices.age(), voices.ages()])
        return predictions_table(ids, answers, probability, years, [self._flag(look) for look in heard.looks])

    def _flag(self, look: Look | DecodeError) -> str:
        if isinstance(look, DecodeError):
            return "no-file" if look.reason == "no such file" else f"unreadable: {look.reason}"
        flags = ["no-face"] if self.detects and look.box is None else []
        return " ".join([*flags, self.seen_before.get(look.content, "")]).strip()
