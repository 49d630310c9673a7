"""Work in threads comes back in order, and never far ahead of whoever takes it."""

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


def test_no_more_than_so_many_run_ahead() -> None:
    taken = 0
    furthest: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            furthest.append(number - taken)
            yield number

    for _ in bounded_map(lambda number: number, items(), workers=2, ahead=5):
        taken += 1
    assert taken == 40 and max(furthest) <= 5


def test_a_failure_is_raised_in_its_place_and_ends_the_rest() -> None:
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
