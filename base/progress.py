"""A progress bar with a rate and an end time, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LOG_EVERY = 30.0
"""Seconds between lines where stderr is a file: a bar would fill a log with escape codes."""


def console() -> Console:
    """A console on stderr, made anew so that it follows a redirected `sys.stderr`."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def note(text: str) -> None:
    """Print one line for the person who waits."""
    console().print(text, markup=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} {task.fields['unit']}/s" if speed else "")


class Bar:
    """Counts work done; a live bar on a terminal, a line every half minute elsewhere."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.started = self.logged = time.monotonic()
        self.shown: Progress | None = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            self.shown = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                _Rate(),
                TextColumn("ends in"),
                TimeRemainingColumn(),
                console=console(),
                transient=True,
            )
            self.task = self.shown.add_task(self.title, total=self.total, unit=self.unit)
            self.shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            self.shown.stop()

    def advance(self, count: int = 1, detail: str = "") -> None:
        """Say that `count` more are done; `detail` follows the title."""
        self.done += count
        now = time.monotonic()
        if self.shown:
            self.shown.update(self.task, advance=count, description=f"{self.title} {detail}".rstrip())
        elif now - self.logged > LOG_EVERY:
            self.logged = now
            rate = self.done / (now - self.started)
            left = (self.total - self.done) / rate if rate else 0.0
            ends = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
            note(f"{self.title} {detail} {self.done}/{self.total}  {rate:.0f} {self.unit}/s  ends {ends}")
