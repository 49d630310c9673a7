"""What torchrun says to each process that it starts. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The place of a process among those that torchrun started.

    rank: its number, from 0. count: of processes. local: its number on its machine. restarts: how often torchrun has started the
    processes again.
    """

    rank: int
    count: int
    local: int
    restarts: int


def place() -> Place | None:
    """The place of this process; None where torchrun did not start it, or started it alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # other launchers set WORLD_SIZE too, for programs of their own
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    found = Place(*(int(os.environ.get(name, 0)) for name in names))
    return found if found.count > 1 else None
