"""The learning curve of a fit on disk: as JSON lines and as TensorBoard event files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, TypeAdapter

from facecade.base.artifact import write_text
from facecade.base.errors import FacecadeError
from facecade.base.fields import has_keys
from facecade.base.files import read_bytes

_EPOCH = TypeAdapter(Annotated[dict[str, float], has_keys("epoch", "loss", "seconds")], config=ConfigDict(strict=True))

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

    Both are rewritten each time, so that an interrupted and resumed run has one curve.

    Args:
        lines: a mapping for each epoch, with its number as `epoch`.
    """
    from torch.utils.tensorboard import SummaryWriter

    write_text(folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(folder / "events", ignore_errors=True)
    with SummaryWriter(str(folder / "events")) as writer:
        for line in lines:
            for name, value in line.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(line["epoch"]))
