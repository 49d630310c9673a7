"""Predict a listing shard by shard, each to a part of its own: any number of processes share the shards, and none waits for another."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from facecade.base.choices import EnsembleKind, FaceChoice
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.place import Place
from facecade.base.program import command, option
from facecade.base.progress import Bar, note
from facecade.base.storage import Folder, open_folder
from facecade.faces.listing_table import NOT_FETCHED, SHARD_ROWS, ListingTable, Shard
from facecade.faces.source import too_many_missing
from facecade.faces.words import NO_DETECTOR
from facecade.inference.cascade import Cascade, Rows
from facecade.inference.columns import columns_of, embedding_widths
from facecade.inference.loading import load_cascade, open_fitted
from facecade.inference.parts import (
    Request,
    count_flags,
    difference,
    new_record,
    part_name,
    part_numbers,
    part_table,
    read_record,
    write_part,
)
from facecade.records import read_combiner_record
from facecade.runs.run import Run

MEASURED_ROWS, WARM_ROWS = 288, 32
"""Photographs that `--dry-run` predicts, and those of them that it does not time: the first calls are slower."""


@dataclass(frozen=True)
class ListingOptions:
    """How a listing is predicted.

    shards, shard: this process takes every `shards`-th shard, from number `shard` on. shard_rows: rows of a shard. faces, ensemble: as
    of `pipeline.infer`. embeddings: also write the networks' embeddings. allow_missing: write parts also where more than a few
    photographs are missing. abstain: as of `pipeline.infer`. allow_http: fetch `http://` and `https://` too. overwrite: replace parts of another run.
    """

    shards: int = 1
    shard: int = 0
    shard_rows: int = SHARD_ROWS
    faces: FaceChoice = "largest"
    ensemble: EnsembleKind | None = None
    embeddings: bool = False
    abstain: float | None = None
    allow_missing: bool = False
    allow_http: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Predicted:
    """What was predicted of a shard. rows: of its part, more than `images` if all faces are predicted; flags: how often each occurs."""

    number: int
    images: int
    rows: int
    flags: Counter[str]


class ListingRun:
    """A listing, the fitted run that predicts it, and the folder of its parts."""

    def __init__(
        self, artifacts: Path, listing: Place, output: Place, machine: Machine, options: ListingOptions
    ) -> None:
        """
        Raises:
            FacecadeError: not a listing, or an empty one; a run that is not fitted; a store that cannot be reached.
        """
        self.artifacts, self.machine, self.options, self.folder = artifacts, machine, options, open_folder(output)
        self.fitted = open_fitted(artifacts, machine)
        self.listing = ListingTable(listing, options.shard_rows, options.allow_http)
        if not self.listing.rows:
            raise FacecadeError(f"{listing} has no rows", "give a listing of photographs: id,uri")
        self.combiner = read_combiner_record(self.fitted.combiner)
        own = self.fitted.recipe.ensemble if isinstance(self.fitted, Run) else self.fitted.made_of.ensemble
        self.request = Request(
            run=self.combiner.signature,
            ensemble=options.ensemble or own,
            faces=options.faces,
            abstain=options.abstain,
            embeddings=options.embeddings,
            shard_rows=options.shard_rows,
            listing=self.listing.identity,
        )

    @property
    def command(self) -> str:
        """The command line that predicts all shards."""
        words = ["infer", str(self.listing.place)]
        words += ["--shard-rows", str(self.options.shard_rows)] if self.options.shard_rows != SHARD_ROWS else []
        words += ["--ensemble", self.options.ensemble] if self.options.ensemble else []
        words += ["--abstain", f"{self.options.abstain:g}"] if self.options.abstain else []
        words += [
            name for name in ("--embeddings", "--allow-http") if getattr(self.options, name[2:].replace("-", "_"))
        ]
        folders = {"artifacts": self.artifacts, "output": self.folder.place}
        return command(shlex.join(words)) + "".join(
            option(f"--{name}", place, name) if isinstance(place, Path) else f" --{name} {shlex.quote(place)}"
            for name, place in folders.items()
        )

    @property
    def parts(self) -> int:
        """Number of parts of the whole listing."""
        return self.listing.shards

    @property
    def own(self) -> range:
        """The numbers of this process's shards."""
        return range(self.options.shard, self.parts, self.options.shards)

    def predictor(self, allow_missing: bool = False) -> ShardPredictor:
        """What predicts shards, with its networks loaded; raises as of `load_cascade`."""
        cascade = load_cascade(self.fitted, self.machine, self.listing.rows, self.options.ensemble)
        if not cascade.detects:
            note(NO_DETECTOR)
        allow_missing = allow_missing or self.options.allow_missing
        return ShardPredictor(cascade, self.folder, self.request, self.machine.workers, allow_missing)

    def finished(self) -> set[int]:
        """The numbers of the parts that are there, of any process. Only this process's own, and one other, are opened: they are many.

        Raises:
            FacecadeError: one is of another run or request, and is not to be replaced.
        """
        found = part_numbers(self.folder.names())
        surplus = {number for number in found if number >= self.parts}
        for number in sorted({*found.intersection(self.own), *sorted(found)[:1], *surplus}):
            other = difference(read_record(self.folder, number), self.request) or (
                number in surplus and "a longer listing"
            )
            if not other:
                continue
            if not self.options.overwrite:
                raise FacecadeError(
                    f"{self.folder.place} holds {part_name(number)} of {other}",
                    "give another folder (--output NEW), or replace its parts with --overwrite",
                )
            found.discard(number)
            if number in surplus:
                self.folder.remove(part_name(number))
        return found

    def infer(self, deal: Deal | None = None) -> dict[str, Any]:
        """Predict this process's shards that have no part yet, in order.

        Args:
            deal: has others predict the shards; by default this process does.

        Returns:
            The summary that `infer --json` prints.

        Raises:
            FacecadeError: as of `finished`, `load_cascade` and `ShardPredictor`.
        """
        started = time.monotonic()
        finished = self.finished()
        todo = set(self.own) - finished
        if finished:
            note(f"{len(finished)} of {self.parts} parts are there")
        predicted, engine = list[Predicted](), ""
        if todo:
            with Bar("infer", sum(map(self._size, todo)), "images") as bar:
                predicted, engine = (deal or _in_this_process)(self, todo, bar)
        flags = sum((each.flags for each in predicted), Counter[str]())
        return {
            "images": sum(each.images for each in predicted),
            "rows": sum(each.rows for each in predicted),
            "parts": self.parts,
            "written": len(predicted),
            "missing": self.parts - len(part_numbers(self.folder.names())),
            "flags": dict(sorted(flags.items())),
            "engine": engine,
            "seconds": round(time.monotonic() - started, 1),
            "output": str(self.folder.place),
        }

    def _size(self, number: int) -> int:
        return min(self.options.shard_rows, self.listing.rows - number * self.options.shard_rows)

    def cost(self, processes: int) -> dict[str, Any]:
        """What predicting the whole listing takes, measured here on its first photographs; nothing is written to the folder.

        Args:
            processes: that share the work, each on a machine or GPU of its own.
        """
        predict = self.predictor(allow_missing=True)
        shard = next(self.listing.read(lambda number: number == 0))
        images = shard.images[:MEASURED_ROWS]
        warm = WARM_ROWS if len(images) == MEASURED_ROWS else 0
        batches = predict.batches(images[:warm])
        started = time.monotonic()
        batches += predict.batches(images[warm:])
        speed = (len(images) - warm) / (time.monotonic() - started)
        several = sum(len(rows.label) for rows in batches) / len(images)
        whole, empty = (predict.part_bytes(shard, batches, count) for count in (len(images), 0))
        rows = self.listing.rows
        flags = count_flags([" ".join(flags) for each in batches for flags in each.flags])
        return {
            "images": rows,
            "parts": self.parts,
            "measured": len(images),
            "images_per_second": round(speed, 2),
            "processes": processes,
            "hours": rows / speed / processes / 3600,
            "bytes": int((whole - empty) * rows / len(images) + empty * self.parts),
            "rows_per_image": round(several, 3),
            "flags": dict(sorted(flags.items())),
            "engine": predict.engine,
        }


Deal = Callable[[ListingRun, set[int], Bar], tuple[list[Predicted], str]]
"""Has the shards of these numbers predicted; returns what was, and by which engine."""


def _in_this_process(run: ListingRun, todo: set[int], bar: Bar) -> tuple[list[Predicted], str]:
    predict = run.predictor()
    return [predict(shard, bar.advance) for shard in run.listing.read(todo.__contains__)], predict.engine


class ShardPredictor:
    """Predicts shards with one cascade, whose networks stay loaded, and writes their parts."""

    def __init__(self, cascade: Cascade, folder: Folder, request: Request, workers: int, allow_missing: bool) -> None:
        self.cascade, self.folder, self.request = cascade, folder, request
        self.workers, self.allow_missing = workers, allow_missing
        self.engine = " ".join(cascade.made_of["engine"])
        self.widths = embedding_widths(cascade) if request.embeddings else None

    def __call__(self, shard: Shard, advance: Callable[[int], None] = lambda _: None) -> Predicted:
        """Predict a shard and write its part.

        Raises:
            FacecadeError: more than a few photographs do not exist or cannot be fetched; the part cannot be written.
        """
        batches = self.batches(shard.images, advance)
        flags = count_flags([" ".join(flags) for rows in batches for flags in rows.flags])
        missing = flags["no-file"] + flags[NOT_FETCHED]
        if too_many_missing(missing, len(shard.ids)) and not self.allow_missing:
            raise self._missing(shard, batches, missing)
        write_part(self.folder, shard.number, self._table(shard, batches))
        return Predicted(shard.number, len(shard.ids), sum(len(rows.label) for rows in batches), flags)

    def batches(self, images: Sequence[Any], advance: Callable[[int], None] = lambda _: None) -> list[Rows]:
        """Predictions of some photographs, in order."""
        batches = []
        for rows in self.cascade.predict(images, self.workers, self.request.faces, self.request.abstain):
            batches.append(rows if self.widths else replace(rows, outputs=None))  # thousands of embeddings take memory
            advance(int(rows.image[-1]) + 1)
        return batches

    def part_bytes(self, shard: Shard, batches: Sequence[Rows], images: int) -> int:
        """The size of a part of the first rows."""
        file = BytesIO()
        pq.write_table(self._table(shard, batches).slice(0, images), file, compression="zstd")
        return len(file.getvalue())

    def _table(self, shard: Shard, batches: Sequence[Rows]) -> Any:
        row, ids = 0, []
        for rows in batches:
            ids += [shard.ids[row + int(each)] for each in rows.image]
            row += int(rows.image[-1]) + 1
        record = new_record(self.request, shard.first, row, self.engine, self.widths or {})
        return part_table(ids, columns_of(batches, self.widths), record)

    def _missing(self, shard: Shard, batches: Sequence[Rows], count: int) -> FacecadeError:
        flags = [
            flag
            for rows in batches
            for flag, image in zip(rows.flags, np.diff(rows.image, prepend=-1), strict=True)
            if image
        ]
        shown = [
            f"row {shard.first + row + 1} '{shard.uris[row]}': {' '.join(each)}"
            for row, each in enumerate(flags)
            if "no-file" in each or any(NOT_FETCHED in flag for flag in each)
        ]
        return FacecadeError(
            f"{count} of {len(shard.ids)} photographs of shard {shard.number} do not exist or {NOT_FETCHED}; its part is not written:\n  "
            + "\n  ".join(line[:300] for line in shown[:5]),
            "fix the listing or your access, or write them as flags: --allow-missing",
        )
