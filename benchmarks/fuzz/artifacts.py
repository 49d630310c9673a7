"""Damaged and hostile runs and exports: refused in words, or they predict as before."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.inference.loading import load_cascade, open_fitted
from facecade.runs.describe import describe
from facecade.runs.run import open_run

from .mutations import ANY_FILE
from .tally import Tally

VALUES: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1e308,
    float("nan"),
    "",
    "x" * 1000,
    "/etc/passwd",
    "../../x",
    [],
    {},
    [None],
    {"x": []},
]
NESTED = "[" * 100_000


def fuzz_artifacts(folder: Path, images: list[Path], work: Path, start: int, count: int) -> Tally:
    """`count` damaged copies of a run's or an export's folder, each with one change."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(_fuzz, folder, images, work, start, count).result()
        except BrokenProcessPool:
            return Tally(tried=count, crashed=[f"{folder.name} {start} to {start + count}: the process died"])


def _fuzz(folder: Path, images: list[Path], work: Path, start: int, count: int) -> Tally:
    tally, expected = Tally(tried=count), _predict(folder, images)
    for number in range(start, start + count):
        generator = np.random.default_rng([17, number])
        copy = work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        case = f"{folder.name} {number}: {_damage(copy, generator)}"
        began = time.monotonic()
        try:
            same = all(np.array_equal(one, other) for one, other in zip(_predict(copy, images), expected, strict=True))
            tally.wrong += [] if same else [f"{case}: other predictions"]
        except FacecadeError:
            tally.refused += 1
        except BaseException as error:
            tally.crashed.append(f"{case}: {type(error).__name__}: {str(error)[:200]}")
        tally.slowest = max(tally.slowest, time.monotonic() - began)
    return tally


def _predict(folder: Path, images: list[Path]) -> list[np.ndarray]:
    machine = Machine(engine="auto" if (folder / "manifest.json").exists() else "torch")
    cascade = load_cascade(open_fitted(folder, machine), machine, len(images))
    rows = list(cascade.predict(images, 1))
    if (folder / "run.json").exists():
        describe(open_run(folder))
    return [np.concatenate([each.probability for each in rows]), np.concatenate([each.years for each in rows])]


def _damage(folder: Path, generator: np.random.Generator) -> str:
    """Damage one file of a folder. Returns what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".txt", ".lock", ""))
    file = files[generator.integers(len(files))]
    name = file.relative_to(folder).as_posix()
    if file.suffix == ".json" and generator.random() < 0.8:
        if generator.random() < 0.03:
            file.write_text(NESTED)
            return f"{name} nested"
        record = json.loads(file.read_text())
        what = _change(record, generator)
        file.write_text(json.dumps(record))
        return f"{name}: {what}"
    kind = generator.integers(4)
    if kind == 0:
        file.unlink()
        return f"{name} is gone"
    if kind == 1:
        other = files[generator.integers(len(files))]
        file.write_bytes(other.read_bytes())
        return f"{name} is {other.relative_to(folder).as_posix()}"
    if kind == 2:
        file.write_bytes(b"")
        return f"{name} is empty"
    mutation = ANY_FILE[generator.integers(len(ANY_FILE))]
    file.write_bytes(mutation(bytearray(file.read_bytes() or b"\0"), generator, []))
    return f"{name} {mutation.__name__}"


def _change(value: Any, generator: np.random.Generator) -> str:
    """Delete or replace one entry of a JSON object, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return "nothing"
    key = keys[generator.integers(len(keys))]
    if isinstance(value[key], dict | list) and value[key] and generator.random() < 0.7:
        return f"{key}.{_change(value[key], generator)}"
    if generator.random() < 0.4:
        del value[key]
        return f"{key} deleted"
    value[key] = VALUES[generator.integers(len(VALUES))]
    return f"{key} = {value[key]!r:.40}"
