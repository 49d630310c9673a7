"""The parts of a listing as one submission.csv, in the listing's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError, excerpt
from facecade.base.origin import Claim
from facecade.base.place import join
from facecade.base.progress import Bar, note
from facecade.faces.listing_table import ListingTable, Shard
from facecade.inference.parts import difference, opened_part, part_name, part_numbers
from facecade.inference.shards import ListingRun
from facecade.report.predictions import PREDICTIONS, SUBMISSION, quoting

IDS_AT_ONCE = 10_000_000
"""Ids that are compared with each other at once, as hashes of 8 bytes; a longer listing is read several times."""

MAX_NAMED = 5
"""Missing parts that a message names."""


def merge(run: ListingRun) -> dict[str, Any]:
    """Write submission.csv (`ImageID,ans`) from the parts. A photograph that cannot be read gets the most frequent class of the
    training people. Memory does not grow with the listing.

    Returns:
        `images`, `parts`, `without_prediction`, `submission`.

    Raises:
        FacecadeError: parts are missing, or of another run or listing; an id is twice in the listing; all faces were predicted.
    """
    if run.options.faces != "largest":
        raise FacecadeError(
            "submission.csv has a row for each photograph, these parts one for each face", "--faces largest"
        )
    _require_all(run)
    claim = None
    if isinstance(run.folder.place, Path):
        inputs: dict[str, Path | str] = {"run": run.artifacts, "data": run.listing.place, "faces": run.options.faces}
        claim = Claim(run.folder.place, "predictions", [SUBMISSION, PREDICTIONS], inputs, run.options.overwrite)
    _require_unique(run.listing)
    most_frequent, unread = int(np.argmax(run.combiner.prior)), 0

    def write(path: Path) -> None:
        nonlocal unread
        with open(path, "w", encoding="utf-8", newline="") as file, Bar("merge", run.listing.rows, "images") as bar:
            for shard in run.listing.read():
                table = _rows(run, shard)
                unread += int(table["ans"].isna().sum())
                table["ans"] = table["ans"].fillna(most_frequent)
                table.to_csv(file, index=False, header=not file.tell(), lineterminator="\n", quoting=quoting(table))
                bar.advance(len(table))

    run.folder.put(SUBMISSION, write)
    run.folder.clean("part-*.parquet")
    if claim:
        claim.write(run.combiner.signature)
    if unread:
        note(
            f"{unread} photographs have no prediction: in {SUBMISSION} they get the most frequent class, {most_frequent}"
        )
    return {
        "images": run.listing.rows,
        "parts": run.parts,
        "without_prediction": unread,
        "submission": str(join(run.folder.place, SUBMISSION)),
    }


def _require_all(run: ListingRun) -> None:
    """Raises FacecadeError, which names them, where parts are missing."""
    found = part_numbers(run.folder.names())
    missing = [number for number in range(run.parts) if number not in found]
    if missing:
        named = ", ".join(part_name(number) for number in missing[:MAX_NAMED])
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise FacecadeError(
            f"{len(missing)} of {run.parts} parts are missing in {run.folder.place}: {named}{more}",
            f"predict them: {run.command}",
        )
    if surplus := found - set(range(run.parts)):
        raise FacecadeError(
            f"{run.folder.place} holds {part_name(min(surplus))}, but the listing has {run.parts} shards",
            "give the --shard-rows of the parts, or remove what is not of this listing",
        )


def _rows(run: ListingRun, shard: Shard) -> pd.DataFrame:
    """`ImageID,ans` of a shard's part; raises FacecadeError where it is not of these rows."""
    with opened_part(run.folder, shard.number) as (part, record):
        if other := difference(record, run.request, embeddings=False):
            raise FacecadeError(
                f"{part_name(shard.number)} in {run.folder.place} is of {other}",
                f"predict it again: {run.command} --overwrite",
            )
        rows = part.metadata.num_rows
        table = part.read(["id", "label"]).to_pandas() if rows == len(shard.ids) else None
    if table is None or table["id"].tolist() != shard.ids or record.first != shard.first:
        raise FacecadeError(
            f"{part_name(shard.number)} in {run.folder.place} has not the ids of the listing's rows {shard.first + 1} to"
            f" {shard.first + len(shard.ids)}",
            f"remove it, and predict it again: {run.command}",
        )
    return pd.DataFrame({"ImageID": table["id"], "ans": table["label"].astype("Int64")})


def _require_unique(listing: ListingTable) -> None:
    """Raises FacecadeError for an id that several rows have."""
    passes = -(-listing.rows // IDS_AT_ONCE)
    for number in range(passes):
        hashes = np.concatenate([each[each % passes == number] for each in map(_hashes, _ids(listing))])
        hashes.sort()
        twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not len(twice):
            continue
        names = Counter(
            name
            for ids in _ids(listing)
            for name, each in zip(ids, np.isin(_hashes(ids), twice).tolist(), strict=True)
            if each
        )
        name, count = names.most_common(1)[0]
        if count > 1:  # else two ids have one hash
            raise FacecadeError(
                f"{listing.place}: {count} rows have the id '{excerpt(name)}'", "give every row an id of its own"
            )


def _ids(listing: ListingTable) -> Iterator[Sequence[str]]:
    return (shard.ids for shard in listing.read())


def _hashes(ids: Sequence[str]) -> np.ndarray:
    return pd.util.hash_array(np.array(ids, object), categorize=False)
