"""Predictions as Parquet, a part for each shard of a listing: its columns, and whose predictions it holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

import facecade
from facecade.base.artifact import Record
from facecade.base.choices import EnsembleKind, FaceChoice
from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.fields import Count, Digest, Probability, Text
from facecade.base.place import join
from facecade.base.storage import Folder, open_place
from facecade.faces.boxes import SIDES
from facecade.faces.labels import BANDS, GENDERS, MASKS, N_CLASSES
from facecade.faces.listing_table import NOT_FETCHED
from facecade.inference.columns import AGES, Columns
from facecade.report.predictions import NO_PREDICTION, split_flags

if TYPE_CHECKING:
    pass

KEY = b"facecade"
"""Of the record in a part's metadata."""

NAME = re.compile(r"part-([0-9]{6,9})\.parquet")

MAX_RECORD = 1 << 16
"""Maximum bytes of that record."""

HALF_MAX = float(np.finfo(np.float16).max)


class Request(Record):
    """What all parts in a folder have in common.

    run: `CombinerRecord.signature`. listing: `ListingTable.identity`. abstain: the risk of unsure predictions, if one was given. embeddings: whether they hold embeddings.
    """

    made_by: ClassVar[str] = "infer LISTING"

    run: Digest
    ensemble: EnsembleKind
    faces: FaceChoice
    abstain: Probability | None = None
    embeddings: bool
    shard_rows: Count
    listing: Digest


class PartRecord(Record):
    """What a part is: the request, its first row in the listing and how many photographs it is of, and who made it. widths: of each
    stage's embedding, in the order in which they stand in the column `embedding`."""

    made_by: ClassVar[str] = "infer LISTING"

    request: Request
    first: Count
    images: Count
    version: Text
    engine: Text
    widths: dict[Text, Count] = Field(default={})


def part_name(number: int) -> str:
    """The file of a shard."""
    return f"part-{number:06}.parquet"


def part_numbers(names: set[str]) -> set[int]:
    """The numbers of the parts among the files of a folder."""
    return {int(found[1]) for name in names if (found := NAME.fullmatch(name)) and name == part_name(int(found[1]))}


def part_table(ids: Sequence[str], columns: Columns, record: PartRecord) -> pa.Table:
    """A part. Values are null where a photograph cannot be read or a value is unknown."""
    no_label = columns.label == NO_PREDICTION

    def floats(values: np.ndarray, kind: Any = None) -> pa.Array:
        return pa.array(values, kind, mask=~np.isfinite(values))

    def words(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=no_label), pa.array(names))

    arrays = {
        "id": pa.array(ids, pa.string()),
        "label": pa.array(columns.label, mask=no_label),
        "mask": words(columns.mask, MASKS),
        "gender": words(columns.gender, GENDERS),
        "band": words(columns.band, BANDS),
        **{name: floats(values) for name, values in zip(AGES, columns.years.T.copy(), strict=True)},
        "confidence": floats(columns.confidence),
        "flags": pa.array(columns.flags, pa.string()),
        "faces": pa.array(columns.faces, mask=columns.faces < 0),
        "face": pa.array(columns.face, mask=columns.face == 0),
        **{name: floats(values) for name, values in zip(SIDES, columns.box.T.copy(), strict=True)},
        **{f"p{label}": floats(columns.probability[:, label].astype(np.float16)) for label in range(N_CLASSES)},
    }
    if columns.embedding is not None:
        # What no float16 can hold is no embedding that a network learned; infinities would spoil every distance.
        halves = np.clip(columns.embedding, -HALF_MAX, HALF_MAX).astype(np.float16)
        values = pa.array(halves.ravel())
        arrays["embedding"] = pa.FixedSizeListArray.from_arrays(values, halves.shape[1], mask=pa.array(no_label))
    return pa.table(arrays).replace_schema_metadata({KEY: record.model_dump_json().encode()})


def write_part(folder: Folder, number: int, table: pa.Table) -> None:
    """Write a part under its name when it is whole. The same predictions give the same bytes."""
    folder.put(
        part_name(number), lambda path: pq.write_table(table, path, compression="zstd", row_group_size=len(table) or 1)
    )


@contextmanager
def opened_part(folder: Folder, number: int) -> Iterator[tuple[Any, PartRecord]]:
    """A part's file and record; raises FacecadeError for a file that is none."""
    place = join(folder.place, part_name(number))
    try:
        with open_place(place) as file, pq.ParquetFile(file) as part:
            text = (part.schema_arrow.metadata or {}).get(KEY, b"")
            if len(text) > MAX_RECORD:
                raise ValueError("its record is too long")
            yield part, PartRecord.model_validate_json(text)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        raise FacecadeError(f"{place} is no part that infer wrote: {first_line(error)}", "remove it") from None


def read_record(folder: Folder, number: int) -> PartRecord:
    """What a part is; raises FacecadeError for a file that is none."""
    with opened_part(folder, number) as (_, record):
        return record


def difference(record: PartRecord, request: Request, embeddings: bool = True) -> str:
    """In what a part differs from a request, in words; empty where it does not.

    Args:
        embeddings: whether it matters if the part has embeddings.
    """
    words = {
        "run": "another run",
        "listing": "another listing",
        "ensemble": f"--ensemble {record.request.ensemble}",
        "faces": f"--faces {record.request.faces}",
        "shard_rows": f"--shard-rows {record.request.shard_rows}",
        "embeddings": "embeddings" if record.request.embeddings else "no embeddings",
    }
    if not embeddings:
        del words["embeddings"]
    others = [text for name, text in words.items() if getattr(record.request, name) != getattr(request, name)]
    return ", ".join(others)


def count_flags(flags: Sequence[str]) -> Counter[str]:
    """How often each flag occurs; photographs that were not fetched under a name of their own."""
    return Counter(
        NOT_FETCHED if NOT_FETCHED in flag else flag.partition(":")[0] for text in flags for flag in split_flags(text)
    )


def new_record(request: Request, first: int, images: int, engine: str, widths: Mapping[str, int]) -> PartRecord:
    """The record of a part that this facecade writes."""
    return PartRecord(
        request=request,
        first=first,
        images=images,
        version=excerpt(facecade.__version__),
        engine=engine,
        widths=dict(widths),
    )
