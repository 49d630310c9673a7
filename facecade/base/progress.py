"""Progress bars with a rate and an end time, on stderr, also for other processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

LOG_SECONDS = 30.0
"""Seconds between log lines if stderr is not a terminal."""

SEND_SECONDS = 0.2
"""Seconds between the messages of a worker process about a bar."""

Message = tuple[Any, ...]


def console() -> Console:
    """A new console on stderr, so that a redirected `sys.stderr` takes effect."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def note(text: str) -> None:
    """Print one line on stderr."""
    if _send:
        _send(("note", text))
    else:
        (_display.console if _display else console()).print(text, markup=False)


class _RateColumn(ProgressColumn):
    """Average rate since the start: rich's own rate uses the last seconds, and jumps if the steps are large."""

    def render(self, task: Task) -> Text:
        speed = _speed(task)
        return Text(_rate(speed, task.fields["unit"]) if speed else "", no_wrap=True)


class _TimeLeft(ProgressColumn):
    """Time left at the average rate."""

    def render(self, task: Task) -> Text:
        speed = _speed(task)
        if not speed or task.total is None:
            return Text("")
        left = timedelta(seconds=round((task.total - task.completed) / speed))
        return Text(f"ends in {left}", no_wrap=True)


def _speed(task: Task) -> float:
    return task.completed / task.elapsed if task.elapsed else 0.0


def _rate(speed: float, unit: str) -> str:
    """Units per second as text; below one per second, units per minute."""
    return f"{speed:.0f} {unit}/s" if speed >= 1 else f"{speed * 60:.1f} {unit}/min"


_display: Progress | None = None
"""The live display, if there is one; all bars share it."""

_send: Callable[[Message], None] | None = None
"""In a worker process: sends notes and bars to the main process."""

_bar_ids = count()


class Bar:
    """A progress bar on a terminal; elsewhere a log line every LOG_SECONDS."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.started = self.logged = time.monotonic()
        self.unsent, self.bar_id = 0, next(_bar_ids)
        self.owns_display = False
        self.task: Any = None

    def __enter__(self) -> Bar:
        global _display
        if _send:
            _send(("begin", self.bar_id, self.title, self.total, self.unit))
        elif sys.stderr.isatty():
            if _display is None:
                _display = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(16),
                    TextColumn("{task.completed}/{task.total}"),
                    _RateColumn(),
                    _TimeLeft(),
                    console=console(),
                    transient=True,
                )
                _display.start()
                self.owns_display = True
            self.task = _display.add_task(self.title, total=self.total, unit=self.unit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _display
        if _send:
            _send(("end", self.bar_id))
        elif _display and self.task is not None:
            _display.remove_task(self.task)
            if self.owns_display:
                _display.stop()
                _display = None

    def advance(self, count: int = 1, detail: str = "") -> None:
        """Add `count` done units; `detail` is shown after the title."""
        self.done += count
        self.unsent += count
        now = time.monotonic()
        if _send:
            if now - self.logged > SEND_SECONDS:
                _send(("advance", self.bar_id, self.unsent, detail))
                self.logged, self.unsent = now, 0
        elif _display and self.task is not None:
            _display.update(self.task, advance=count, description=f"{self.title} {detail}".rstrip())
        elif now - self.logged > LOG_SECONDS:
            self.logged = now
            rate = self.done / (now - self.started)
            left = (self.total - self.done) / rate if rate else 0.0
            ends = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
            note(f"{self.title} {detail} {self.done}/{self.total}  {_rate(rate, self.unit)}  ends {ends}")


def redirect(send: Callable[[Message], None]) -> None:
    """Send the bars and notes of this process by `send` instead of showing them."""
    global _send
    _send = send


class RemoteBars:
    """Shows the bars and notes of other processes."""

    def __init__(self) -> None:
        self.bars: dict[tuple[int, int], Bar] = {}

    def receive(self, process: int, message: Message) -> None:
        """Show a message of the process with this id."""
        kind, *rest = message
        if kind == "note":
            note(*rest)
        elif kind == "begin":
            bar_id, title, total, unit = rest
            self.bars[process, bar_id] = Bar(title, total, unit).__enter__()
        elif kind == "advance":
            bar_id, done, detail = rest
            self.bars[process, bar_id].advance(done, detail)
        elif kind == "end":
            self.bars.pop((process, rest[0])).__exit__(None, None, None)
