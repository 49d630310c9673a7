"""Which engine is the quickest here, and in which precision: measured once, and recorded_choice."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.artifact import read_json, write_json
from facecade.base.machine import cores
from facecade.base.progress import note
from facecade.inference.engines import ENGINES, has_bf16
from facecade.inference.ensemble import Ensemble

CHUNKS = 4
"""Chunks that an engine is timed on, after one that warms it up."""


@dataclass(frozen=True)
class EngineOption:
    """An engine in a precision. make: the same networks, run so. again: share of the images that the engine is asked about in
    fp32 too."""

    engine: str
    precision: str
    make: Callable[[], Ensemble]
    fallback_share: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"


def recorded_choice(record: Path, of: str) -> tuple[str, str] | None:
    """Engine and precision that were the quickest here for these networks; None where that was not measured, or something has
    changed."""
    if not record.exists():
        return None
    known = read_json(record)
    return (known["engine"], known["precision"]) if known.get("measured") == _circumstances(of) else None


def choose(record: Path, of: str, options: Sequence[EngineOption], face: tuple[int, int]) -> tuple[str, str]:
    """Time some ways and keep what was found.

    Args:
        record: file to remember it in.
        of: what the networks are.
        ways: each engine's fp32 among them.
        face: height and width of a crop.

    Returns:
        Engine and precision.
    """
    alone = {option.name: _rate(option.make(), face) for option in options}
    rates = {
        option.name: 1 / (1 / alone[option.name] + option.fallback_share / alone[f"{option.engine} fp32"])
        for option in options
    }
    best = max(options, key=lambda option: rates[option.name])
    said = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    note(f"engine: {best.name} (one fold's networks, images/s: {said})")
    found = {"engine": best.engine, "precision": best.precision}
    rounded = {name: round(rate, 1) for name, rate in rates.items()}
    write_json(record, {**found, "images_per_second": rounded, "measured": _circumstances(of)})
    return best.engine, best.precision


def _rate(ensemble: Ensemble, face: tuple[int, int]) -> float:
    """Images a second."""
    crops = np.random.default_rng(0).integers(0, 256, (ensemble.batch, *face, 3), np.uint8)
    list(ensemble.predict_chunks([crops]))
    started = time.monotonic()
    list(ensemble.predict_chunks([crops] * CHUNKS))
    return CHUNKS * ensemble.batch / (time.monotonic() - started)


def _circumstances(of: str) -> dict[str, Any]:
    """What another measurement might depend on."""
    versions = {}
    for package in ("torch", *ENGINES.values()):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    machine = {"machine": platform.machine(), "cores": cores(), "bf16": has_bf16()}
    return {"networks": of, **machine, "versions": versions}
