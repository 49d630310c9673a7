"""The learning curve of a fit on disk: as JSON lines and as TensorBoard event files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from facecade.base.artifact import write_text


def read_history(folder: Path) -> list[dict[str, float]]:
    """A mapping for each epoch of a fit; empty if it has not begun."""
    path = folder / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
