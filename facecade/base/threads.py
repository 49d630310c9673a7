"""Work for threads, in order and with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def bounded_map(
    call: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 32
) -> Iterator[Result]:
    """`map` in threads that run at most `ahead` results before whoever takes them: memory stays flat."""
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(call, item) for item in islice(source, ahead)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(call, item) for item in islice(source, 1)]
        finally:
            for future in waiting:
                future.cancel()
