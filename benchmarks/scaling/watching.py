"""What fits and processes do while a command runs: which epochs are trained, where, and twice; sockets; memory."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

SAMPLE_SECONDS = 0.05


class Watcher:
    """Calls something again and again in a thread, until the end of a `with` block."""

    def __init__(self, look: Callable[[], None], seconds: float = SAMPLE_SECONDS) -> None:
        self._look, self._seconds, self._ended = look, seconds, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._look()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()


class Fits:
    """The fits of a run, as their files show them.

    epochs: for a fit and an epoch, the lines of its learning curve; a second one differs in its seconds, and means that the epoch was
    trained twice. holders: for a fit, the host and the process of each lease that it had.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.epochs = defaultdict[tuple[str, int], set[str]](set)
        self.holders = defaultdict[str, set[tuple[str, int]]](set)

    def look(self) -> None:
        for folder in self.run.glob("stages/*/*"):
            name = folder.relative_to(self.run / "stages").as_posix()
            with suppress(OSError, ValueError):
                holder = json.loads((folder / ".lease").read_text())
                self.holders[name].add((holder["host"], holder["process"]))
            with suppress(OSError, ValueError):
                for line in (folder / "history.jsonl").read_text().splitlines():
                    self.epochs[name, json.loads(line)["epoch"]].add(line)

    def finished(self) -> dict[str, int]:
        """When each fit that is finished ended, in nanoseconds."""
        found = {}
        for file in self.run.glob("stages/*/*/meta.json"):
            with suppress(OSError):
                found[file.parent.relative_to(self.run / "stages").as_posix()] = file.stat().st_mtime_ns
        return found

    def begun(self) -> dict[str, int]:
        """Epochs of the fits that are not finished."""
        finished, count = self.finished(), defaultdict[str, int](int)
        for name, _ in [*self.epochs]:
            count[name] += name not in finished
        return {name: number for name, number in count.items() if number}

    @property
    def trained_twice(self) -> int:
        return sum(len(lines) - 1 for lines in self.epochs.values())


class Sockets:
    """Sockets of this process's children that reach other machines, or that other machines could reach."""

    def __init__(self) -> None:
        self.seen = 0
        self.outside = set[str]()

    def look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                name = process.name()
                for socket in process.net_connections("inet"):
                    ends = [end for end in (socket.laddr, socket.raddr) if end]
                    self.seen += 1
                    if not all(is_loopback(end.ip) for end in ends):
                        self.outside.add(f"{name} {' '.join(f'{end.ip}:{end.port}' for end in ends)}")


class Memory:
    """Memory of some processes in the course of time. processes: lists them."""

    def __init__(self, processes: Callable[[], Iterable[psutil.Process]]) -> None:
        self._processes = processes
        self.samples = defaultdict[int, list[tuple[float, int]]](list)

    def look(self) -> None:
        for process in self._processes():
            with suppress(psutil.Error):
                self.samples[process.pid].append((time.monotonic(), process.memory_info().rss))

    @property
    def peak_mib(self) -> float:
        """Of the largest process."""
        return max((rss for samples in self.samples.values() for _, rss in samples), default=0) / 2**20

    @property
    def growth(self) -> float:
        """The peak of a process, against its peak in the first third of its time; of the process that grows most. One that lived less
        than half as long as another has no time after its start, and is left out."""
        spans = {pid: samples[-1][0] - samples[0][0] for pid, samples in self.samples.items()}
        lasting = [pid for pid, span in spans.items() if span >= max(spans.values()) / 2]
        return max((growth(self.samples[pid]) for pid in lasting), default=0.0)


def growth(samples: list[tuple[float, int]]) -> float:
    """The last peak of memory against that of the first third of the time; samples: seconds and bytes."""
    start, end = samples[0][0], samples[-1][0]
    first = max(rss for at, rss in samples if at <= start + (end - start) / 3)
    return max(rss for _, rss in samples) / first


def is_loopback(address: str) -> bool:
    address = address.removeprefix("::ffff:")
    return address.startswith("127.") or address == "::1"
