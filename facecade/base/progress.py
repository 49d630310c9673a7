"""Progress bars with a rate and an end time, on stderr, also for other processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LOG_SECONDS = 30.0
"""Seconds between log lines if stderr is not a terminal."""

SEND_SECONDS = 0.2
"""Seconds between the messages of a worker process about a bar."""

BAR_WIDTH = 16
"""Columns of a bar on the terminal."""

Message = tuple[Any, ...]


def console() -> Console:
    """A new console on stderr, so that a redirected `sys.stderr` takes effect. A terminal gets lines that end between words;
    a file gets them whole."""
    return Console(file=sys.stderr, soft_wrap=not sys.stderr.isatty(), highlight=False)


def note(text: str) -> None:
    """Print one line on stderr."""
    if _send:
        _send(("note", text))
    else:
        (_display.console if _display else console()).print(text, markup=False)


class _Display(Progress):
    """The live display: a line for each bar, in columns that all bars share."""

    def get_renderables(self) -> Iterable[Any]:
        yield _Lines([task.fields["bar"] for task in self.tasks])


class _Lines:
    """The lines of several bars. Where a terminal is narrow, columns are left out whole, so that no word is cut: at first the
    bar, then the rate, then the time left."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self.bars = bars

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [
            [bar.title for bar in self.bars],
            [bar.detail or f"{bar.done}/{bar.total}" for bar in self.bars],
            ["" for _ in self.bars],
            [bar.rate for bar in self.bars],
            [bar.time_left for bar in self.bars],
        ]
        widths = [max(map(len, column), default=0) for column in columns]
        widths[2] = BAR_WIDTH
        kept = [column for column, width in enumerate(widths) if width]
        for column in (2, 3, 4):
            if sum(widths[each] + 1 for each in kept) - 1 > options.max_width and column in kept:
                kept.remove(column)
        table = Table.grid(padding=(0, 1, 0, 0))
        for column in kept:
            table.add_column(width=widths[column], no_wrap=True)
        for row, bar in enumerate(self.bars):
            cells = [Text(column[row]) for column in columns]
            drawn = ProgressBar(total=max(bar.total, 1), completed=bar.done, width=BAR_WIDTH)
            table.add_row(*[drawn if column == 2 else cells[column] for column in kept])
        yield table


def _rate(speed: float, unit: str) -> str:
    """Units per second as text; below one per second, units per minute."""
    return f"{speed:.0f} {unit}/s" if speed >= 1 else f"{speed * 60:.1f} {unit}/min"


_display: Progress | None = None
"""The live display, if there is one; all bars share it."""

_send: Callable[[Message], None] | None = None
"""In a worker process: sends notes and bars to the main process."""

_bar_ids = count()


class Bar:
    """A progress bar on a terminal; elsewhere a log line every LOG_SECONDS.

    unit: what is counted, in plural; empty if only the time left says something, as where the counts are costs. done: of an
    earlier call; the rate leaves it out.
    """

    def __init__(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.title, self.total, self.unit, self.done, self.detail = title, total, unit, done, ""
        self.before = done
        self.started = self.changed = self.logged = time.monotonic()
        self.unsent, self.bar_id = 0, next(_bar_ids)
        self.owns_display = False
        self.task: Any = None

    def __enter__(self) -> Bar:
        global _display
        if _send:
            _send(("begin", self.bar_id, self.title, self.total, self.unit, self.done))
        elif sys.stderr.isatty():
            if _display is None:
                _display = _Display(console=console(), transient=True)
                _display.start()
                self.owns_display = True
            self.task = _display.add_task(self.title, bar=self)
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

    def advance(self, count: int = 1, detail: str | None = None) -> None:
        """Add `count` done units; `detail` is shown in place of the count, until there is another."""
        self.done += count
        self.unsent += count
        self.detail = self.detail if detail is None else detail
        now = time.monotonic()
        if count:
            self.changed = now
        if _send:
            if now - self.logged > SEND_SECONDS:
                _send(("advance", self.bar_id, self.unsent, self.detail))
                self.logged, self.unsent = now, 0
        elif self.task is None and now - self.logged > LOG_SECONDS:
            self.logged = now
            count_text = f"{self.done}/{self.total}" if self.unit else ""
            words = [" ".join(filter(None, [self.title, self.detail, count_text])), self.rate]
            if (left := self.seconds_left) is not None:
                words.append(f"ends {time.strftime('%H:%M:%S', time.localtime(time.time() + left))}")
            note("  ".join(filter(None, words)))

    @property
    def speed(self) -> float:
        """Units per second, on average until the last one was done: steps may be large."""
        seconds = self.changed - self.started
        return (self.done - self.before) / seconds if seconds > 0 else 0.0

    @property
    def rate(self) -> str:
        """The speed in words; empty if it is unknown."""
        return _rate(self.speed, self.unit) if self.unit and self.speed else ""

    @property
    def seconds_left(self) -> float | None:
        """Until all is done, at the average speed; None if it is unknown."""
        if not self.speed:
            return None
        return max(0.0, (self.total - self.done) / self.speed - (time.monotonic() - self.changed))

    @property
    def time_left(self) -> str:
        """The time left in words; empty if it is unknown."""
        seconds = self.seconds_left
        return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left".removeprefix("0:")


def redirect(send: Callable[[Message], None]) -> None:
    """Send the bars and notes of this process by `send` instead of showing them."""
    global _send
    _send = send


class RemoteBars:
    """Shows the bars and notes of other processes."""

    def __init__(self) -> None:
        self.bars: dict[tuple[str, int], Bar] = {}

    def receive(self, source: str, message: Message) -> None:
        """Show a message.

        Args:
            source: names what sends it: a fit. Its process may be lost, and another one begin it again.
        """
        kind, *rest = message
        if kind == "note":
            note(*rest)
        elif kind == "begin":
            bar_id, *about = rest
            self._close((source, bar_id))
            self.bars[source, bar_id] = Bar(*about).__enter__()
        elif kind == "advance":
            bar_id, done, detail = rest
            if bar := self.bars.get((source, bar_id)):
                bar.advance(done, detail)
        elif kind == "end":
            self._close((source, rest[0]))

    def end(self, source: str) -> None:
        """Remove the bars of a source."""
        for key in [key for key in self.bars if key[0] == source]:
            self._close(key)

    def _close(self, key: tuple[str, int]) -> None:
        if bar := self.bars.pop(key, None):
            bar.__exit__(None, None, None)
