"""What was tried, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

BUG_TEXTS = ("Traceback (most recent call last)", "this is a bug")
"""What must never be printed."""


@dataclass
class Tally:
    """Counts of one kind of trial.

    tried: cases. refused: of these, ended in an error in words. lost: rows or files that vanished or came twice. crashed: cases
    that ended in a traceback, an unexpected exception, a hang or a signal. wrong: cases with another result than expected.
    slowest: seconds of the slowest case. peak_mib: peak memory of a process.
    """

    tried: int = 0
    refused: int = 0
    lost: int = 0
    crashed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak_mib: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.tried + other.tried,
            self.refused + other.refused,
            self.lost + other.lost,
            self.crashed + other.crashed,
            self.wrong + other.wrong,
            max(self.slowest, other.slowest),
            max(self.peak_mib, other.peak_mib),
        )

    def check_text(self, case: str, text: str) -> None:
        """Count a case as crashed if what it printed shows a bug."""
        if any(bug in text for bug in BUG_TEXTS):
            self.crashed.append(f"{case}: {text.strip()[-300:]}")


def total(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, Tally())


def resumable(
    folder: Path, chunks: Sequence[tuple[str, Callable[[], Tally]]], progress: Callable[[str], None]
) -> Tally:
    """The sum of chunks; each is saved when it is done, and not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    tallies = []
    for name, run in chunks:
        file = folder / f"{name}.json"
        if not file.exists():
            progress(f"{folder.name} {name}")
            file.write_text(json.dumps(asdict(run())))
        tallies.append(Tally(**json.loads(file.read_text())))
    return total(tallies)
