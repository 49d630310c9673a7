"""bounded_map returns results in order, and never runs far ahead of the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from facecade.base.threads import bounded_map


def test_results_come_in_order() -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.002 * (number % 2 == 0))
        return number * number

    assert list(bounded_map(slow_when_even, range(50), workers=4, ahead=8)) == [number**2 for number in range(50)]


def test_no_more_than_ahead_items_are_read() -> None:
    consumed = 0
    distances: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            distances.append(number - consumed)
            yield number

    for _ in bounded_map(lambda number: number, items(), workers=2, ahead=5):
        consumed += 1
    assert consumed == 40 and max(distances) <= 5


def test_an_exception_is_raised_in_order_and_stops_the_rest() -> None:
    called: list[int] = []
    lock = threading.Lock()

    def call(number: int) -> int:
        with lock:
            called.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    results = bounded_map(call, range(1000), workers=1, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert max(called) < 10
