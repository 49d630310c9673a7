"""Progress bars with a rate and an end time, on stderr; those of other processes too."""

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

LOG_EVERY = 30.0
"""Seconds between lines where stderr is a file: a bar would fill a log with escape codes."""

TELL_EVERY = 0.2
"""Seconds between what a process tells another of a bar."""

Message = tuple[Any, ...]


def console() -> Console:
    """A console on stderr, made anew so that it follows a redirected `sys.stderr`."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def note(text: str) -> None:
    """Print one line for the person who waits."""
    if _teller:
        _teller(("note", text))
    else:
        (_screen.console if _screen else console()).print(text, markup=False)


class _Rate(ProgressColumn):
    """Rate since the bar began: rich's own follows the last moments, and jumps where work comes in large pieces."""

    def render(self, task: Task) -> Text:
        speed = _speed(task)
        return Text(_rate(speed, task.fields["unit"]) if speed else "", no_wrap=True)


class _End(ProgressColumn):
    """Time left at that rate."""

    def render(self, task: Task) -> Text:
        speed = _speed(task)
        if not speed or task.total is None:
            return Text("")
        left = timedelta(seconds=round((task.total - task.completed) / speed))
        return Text(f"ends in {left}", no_wrap=True)


def _speed(task: Task) -> float:
    return task.completed / task.elapsed if task.elapsed else 0.0


def _rate(speed: float, unit: str) -> str:
    """Units a second in words; of slow work, units a minute."""
    return f"{speed:.0f} {unit}/s" if speed >= 1 else f"{speed * 60:.1f} {unit}/min"


_screen: Progress | None = None
"""The live display, where one is up. All bars share it: a terminal has room for one."""

_teller: Callable[[Message], None] | None = None
"""In a worker process: sends notes and bars to the process that has the terminal."""

_names = count()


class Bar:
    """Counts work done; a live bar on a terminal, a line every half minute elsewhere."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.started = self.logged = time.monotonic()
        self.untold, self.name = 0, next(_names)
        self.owns_screen = False
        self.task: Any = None

    def __enter__(self) -> Bar:
        global _screen
        if _teller:
            _teller(("begin", self.name, self.title, self.total, self.unit))
        elif sys.stderr.isatty():
            if _screen is None:
                _screen = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(16),
                    TextColumn("{task.completed}/{task.total}"),
                    _Rate(),
                    _End(),
                    console=console(),
                    transient=True,
                )
                _screen.start()
                self.owns_screen = True
            self.task = _screen.add_task(self.title, total=self.total, unit=self.unit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _screen
        if _teller:
            _teller(("end", self.name))
        elif _screen and self.task is not None:
            _screen.remove_task(self.task)
            if self.owns_screen:
                _screen.stop()
                _screen = None

    def advance(self, count: int = 1, detail: str = "") -> None:
        """Say that `count` more are done; `detail` follows the title."""
        self.done += count
        self.untold += count
        now = time.monotonic()
        if _teller:
            if now - self.logged > TELL_EVERY:
                _teller(("advance", self.name, self.untold, detail))
                self.logged, self.untold = now, 0
        elif _screen and self.task is not None:
            _screen.update(self.task, advance=count, description=f"{self.title} {detail}".rstrip())
        elif now - self.logged > LOG_EVERY:
            self.logged = now
            rate = self.done / (now - self.started)
            left = (self.total - self.done) / rate if rate else 0.0
            ends = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
            note(f"{self.title} {detail} {self.done}/{self.total}  {_rate(rate, self.unit)}  ends {ends}")


def tell(send: Callable[[Message], None]) -> None:
    """From now on, send this process's bars and notes with `send` instead of showing them."""
    global _teller
    _teller = send


class Listener:
    """Shows the bars and notes that other processes tell of."""

    def __init__(self) -> None:
        self.bars: dict[tuple[int, int], Bar] = {}

    def receive(self, process: int, message: Message) -> None:
        """Show a message of the process with this number."""
        kind, *rest = message
        if kind == "note":
            note(*rest)
        elif kind == "begin":
            name, title, total, unit = rest
            self.bars[process, name] = Bar(title, total, unit).__enter__()
        elif kind == "advance":
            name, done, detail = rest
            self.bars[process, name].advance(done, detail)
        elif kind == "end":
            self.bars.pop((process, rest[0])).__exit__(None, None, None)
