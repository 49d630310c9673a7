"""A parallel map with threads, in order and with bounded memory."""

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
    """`map` in threads; at most `ahead` results wait for the caller, so memory is bounded."""
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(call, item) for item in islice(source, ahead)]
        try:
            while futures:
                yield futures.pop(0).result()
                futures += [pool.submit(call, item) for item in islice(source, 1)]
        finally:
            for future in futures:
                future.cancel()
