"""Which engine is the quickest here: measured once, and remembered."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from base.artifact import read_json, write_json
from base.machine import cores
from base.progress import note
from inference.engines import ENGINES
from inference.ensemble import Ensemble

CHUNKS = 4
"""Chunks that an engine is timed on, after one that warms it up."""


def remembered(record: Path, of: str) -> str | None:
    """The engine that was the quickest here for these networks; None where it was not measured, or something has changed."""
    known = read_json(record) if record.exists() else {}
    return str(known["engine"]) if known.get("measured") == _circumstances(of) else None


def choose(record: Path, of: str, ensembles: Mapping[str, Callable[[], Ensemble]], face: tuple[int, int]) -> str:
    """Time some engines and keep what was found.

    Args:
        record: file to remember it in.
        of: what the networks are.
        ensembles: by engine, what makes the same networks.
        face: height and width of a crop.
    """
    rates = {engine: _rate(make(), face) for engine, make in ensembles.items()}
    best = max(rates, key=lambda engine: rates[engine])
    said = ", ".join(f"{engine} {rate:.0f}" for engine, rate in rates.items())
    note(f"engine: {best} (one fold's networks, photographs/s: {said})")
    rounded = {engine: round(rate, 1) for engine, rate in rates.items()}
    write_json(record, {"engine": best, "photographs_per_second": rounded, "measured": _circumstances(of)})
    return best


def _rate(ensemble: Ensemble, face: tuple[int, int]) -> float:
    """Photographs a second."""
    crops = np.random.default_rng(0).integers(0, 256, (ensemble.batch, *face, 3), np.uint8)
    list(ensemble.hear([crops]))
    started = time.monotonic()
    list(ensemble.hear([crops] * CHUNKS))
    return CHUNKS * ensemble.batch / (time.monotonic() - started)


def _circumstances(of: str) -> dict[str, Any]:
    """What another measurement might depend on."""
    versions = {}
    for package in ("torch", *ENGINES.values()):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    return {"networks": of, "machine": platform.machine(), "cores": cores(), "versions": versions}
