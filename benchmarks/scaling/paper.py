"""On paper: what 10⁸ photographs take on many machines, where each bound lies, and what twice the speed costs.

Everything follows from measured rows and from what `Assumptions` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PHOTOGRAPHS = 10**8


@dataclass(frozen=True)
class Assumptions:
    """What is not measured here.

    machines: so many, each with `cores` like those measured. gigabits: of a machine's network, a second. core_hour: price of a core,
    in dollars an hour. thousand_gets: price of 1,000 requests, in dollars. latency: seconds from a request to its first byte.
    requests_a_second: that a store answers for one prefix of its names. prefixes: that the photographs have. request_factor: how much more a store's client takes than the
    plain GET that was measured, for TLS and signing. workers: threads of a process that fetch and decode, at most.
    """

    machines: int = 40
    cores: int = 16
    gigabits: float = 10.0
    core_hour: float = 0.04
    thousand_gets: float = 0.0004
    latency: float = 0.05
    requests_a_second: float = 5500.0
    prefixes: int = 4
    request_factor: float = 5.0
    workers: int = 16


@dataclass(frozen=True)
class Photograph:
    """What one photograph takes. Seconds are of one core.

    bytes: of its file. part_bytes: of its row in a part. row: seconds in which one process reads its row of the listing. request,
    decoding, networks, part: seconds of the work that the machines share; networks includes finding the face.
    """

    bytes: float
    part_bytes: float
    row: float
    request: float
    decoding: float
    networks: float
    part: float

    @property
    def core_seconds(self) -> float:
        return self.request + self.decoding + self.networks + self.part


@dataclass(frozen=True)
class Bound:
    """hours: that all photographs take at least, if nothing else were slower. halved: what makes it half, in words."""

    what: str
    hours: float
    halved: str


def bounds(one: Photograph, given: Assumptions, count: int = PHOTOGRAPHS) -> list[Bound]:
    """Each bound by itself. Work on cores adds up; the rest happens meanwhile."""
    cores, hour = given.machines * given.cores, 3600
    shared = [("requests: cores", one.request), ("decoding: cores", one.decoding), ("networks: cores", one.networks)]
    shared += [("writing Parquet: cores", one.part)]
    rows = [Bound(what, count * seconds / cores / hour, "twice the cores") for what, seconds in shared]
    waiting = count * given.latency / (given.machines * given.workers) / hour
    return [
        *rows,
        Bound("all work on cores", sum(row.hours for row in rows), "twice the cores"),
        Bound(
            "listing: one process reads it and deals", count * one.row / hour, "two listings, and a command for each"
        ),
        Bound("requests: waiting for the first byte", waiting, "twice the threads (`--workers`)"),
        Bound(
            "requests: of the store",
            count / given.requests_a_second / given.prefixes / hour,
            "twice the prefixes in the photographs' names",
        ),
        Bound(
            "bytes of photographs: network",
            count * one.bytes * 8 / (given.machines * given.gigabits * 1e9) / hour,
            "twice the machines, or smaller photographs",
        ),
        Bound(
            "bytes of parts: network",
            count * one.part_bytes * 8 / (given.machines * given.gigabits * 1e9) / hour,
            "twice the machines",
        ),
    ]


def hours(one: Photograph, given: Assumptions, count: int = PHOTOGRAPHS) -> float:
    """The largest bound."""
    return max(bound.hours for bound in bounds(one, given, count))


def machines_for(one: Photograph, given: Assumptions, hours: float, count: int = PHOTOGRAPHS) -> int:
    """Machines whose cores do all work in so many hours."""
    return -int(-count * one.core_seconds // (3600 * hours * given.cores))


def dollars(one: Photograph, given: Assumptions, count: int = PHOTOGRAPHS) -> tuple[float, float]:
    """Of the machines, for as long as the largest bound lasts; and of the requests."""
    of_machines = hours(one, given, count) * given.machines * given.cores * given.core_hour
    return of_machines, count / 1000 * given.thousand_gets


def photograph(
    costs: Mapping[str, Any], networks: float, given: Assumptions, size: int = 0, listing: int = 0
) -> Photograph:
    """From measured rows.

    Args:
        costs: as of `costs.measure`.
        networks: seconds of a core for a photograph, with finding its face and without decoding.
        size, listing: which of the measured photographs and listings.
    """
    decoding, request = costs["decoding"][size], costs["request"]
    return Photograph(
        bytes=decoding["bytes"],
        part_bytes=costs["part"]["bytes"],
        row=costs["listing"][listing]["read"],
        request=request["seconds"] * given.request_factor,
        decoding=decoding["seconds"],
        networks=networks,
        part=costs["part"]["seconds"],
    )


def networks_of(rows: Sequence[Mapping[str, str]], cores: int) -> dict[str, float]:
    """Seconds of a core for finding a face and for the networks, of a table of benchmarks/INFERENCE.md: its rates are of all cores."""

    def rate(begin: str) -> float:
        return next(float(row["images/s"]) for row in rows if row["what"].strip().startswith(begin))

    seeing, decoding, whole = (cores / rate(name) for name in ("decoding, finding", "(c)", "(b)"))
    first = cores / rate("the same with one network")
    return {"finding": seeing - decoding, "all folds": whole - decoding, "one network": first - decoding}
