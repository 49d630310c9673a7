"""The fastest engine and precision on this machine: measured once, then recorded."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from facecade.base.artifact import Record, valid_record, write_record
from facecade.base.fields import Count, Digest, Text, one_of
from facecade.base.lock import locked
from facecade.base.machine import cores
from facecade.base.progress import note
from facecade.inference.engines import ENGINES, has_bf16
from facecade.inference.ensemble import Ensemble

TIMED_CHUNKS = 4
"""Chunks that an engine is timed on, after one to warm up."""


class Environment(Record):
    """What the measured rates depend on."""

    networks: Digest
    machine: Text
    cores: Count
    bf16: bool
    versions: dict[Text, Text]


class EngineRecord(Record):
    """engine-PRECISION.json: the fastest engine, and the rates of all of them."""

    made_by: ClassVar[str] = "infer DATA"

    engine: Annotated[str, one_of("torch", *ENGINES)]
    precision: Annotated[str, one_of("fp32", "bf16")]
    images_per_second: dict[Text, float]
    measured: Environment


@dataclass(frozen=True)
class EngineOption:
    """An engine in a precision. make: loads the networks. fallback_share: share of the images that run in fp32 as well."""

    engine: str
    precision: str
    make: Callable[[], Ensemble]
    fallback_share: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"


def recorded_choice(record: Path, networks: str) -> tuple[str, str] | None:
    """The recorded engine and precision; None where none is recorded, or networks, machine or versions have changed."""
    known = valid_record(record, EngineRecord)
    return (known.engine, known.precision) if known and known.measured == _environment(networks) else None


def choose_engine(
    record: Path, networks: str, options: Sequence[EngineOption], face: tuple[int, int]
) -> tuple[str, str]:
    """Time some engines and record the fastest.

    Args:
        record: file of the result.
        networks: digest of the networks.
        options: fp32 of each engine must be among them.
        face: height and width of a crop.

    Returns:
        Engine and precision.
    """
    own_rates = {option.name: _rate(option.make(), face) for option in options}
    rates = {
        option.name: 1 / (1 / own_rates[option.name] + option.fallback_share / own_rates[f"{option.engine} fp32"])
        for option in options
    }
    best = max(options, key=lambda option: rates[option.name])
    text = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    note(f"engine: {best.name} (one fold's networks, images/s: {text})")
    rounded = {name: round(rate, 1) for name, rate in rates.items()}
    with locked(record.parent):
        write_record(
            record,
            EngineRecord(
                engine=best.engine,
                precision=best.precision,
                images_per_second=rounded,
                measured=_environment(networks),
            ),
        )
    return best.engine, best.precision


def _rate(ensemble: Ensemble, face: tuple[int, int]) -> float:
    """Images per second."""
    crops = np.random.default_rng(0).integers(0, 256, (ensemble.batch, *face, 3), np.uint8)
    list(ensemble.predict_chunks([crops]))
    started = time.monotonic()
    list(ensemble.predict_chunks([crops] * TIMED_CHUNKS))
    return TIMED_CHUNKS * ensemble.batch / (time.monotonic() - started)


def _environment(networks: str) -> Environment:
    versions = {}
    for package in ("torch", *ENGINES.values()):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    return Environment(networks=networks, machine=platform.machine(), cores=cores(), bf16=has_bf16(), versions=versions)
