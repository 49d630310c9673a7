"""The learning curve of a fit on disk: as JSON lines and as TensorBoard event files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, TypeAdapter

from facecade.base.artifact import remove_leftovers, write_bytes, write_text
from facecade.base.errors import FacecadeError
from facecade.base.fields import has_keys
from facecade.base.files import read_bytes

_EPOCH = TypeAdapter(Annotated[dict[str, float], has_keys("epoch", "loss", "seconds")], config=ConfigDict(strict=True))

VALIDATION = "val_"
"""Begin of the names of what is measured on held-out people after each epoch: `val_loss`, `val_accuracy`."""

MAX_HISTORY_BYTES = 16 << 20


def read_history(folder: Path) -> list[dict[str, float]]:
    """A mapping for each epoch of a fit; empty if it has not begun. Raises FacecadeError for a damaged file."""
    path = folder / "history.jsonl"
    if not path.exists():
        return []
    lines = read_bytes(path, MAX_HISTORY_BYTES).splitlines()
    try:
        return [_EPOCH.validate_json(line) for line in lines]
    except ValueError:
        raise FacecadeError(f"{path} is damaged", "remove it, or fit the stage again") from None


def write_history(folder: Path, lines: Sequence[Mapping[str, float]]) -> None:
    """Write the metrics of every epoch so far: `history.jsonl`, and `events/` for TensorBoard.

    Both are written anew each time, so that an interrupted and resumed run has one curve. TensorBoard's own writer is a
    thread, which cannot report a full disk.

    Args:
        lines: a mapping for each epoch, with its number as `epoch`.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    write_text(folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    events = [Event(file_version="brain.Event:2", wall_time=time.time())]
    for line in lines:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in line.items() if name != "epoch"]
        events.append(Event(step=int(line["epoch"]), wall_time=time.time(), summary=Summary(value=values)))
    records = BytesIO()
    for event in events:
        RecordWriter(records).write(event.SerializeToString())
    remove_leftovers(folder / "events")  # TensorBoard would read them
    write_bytes(folder / "events/events.out.tfevents", records.getvalue())
