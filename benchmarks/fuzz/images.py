"""Broken image files: every row that was asked for is there, in order, with the flag that decoding alone gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from facecade.faces.decode import DecodeError, decode
from facecade.faces.synthetic import draw_face

from .mutations import MUTATIONS, many_scans, saved
from .running import run
from .tally import Tally

Result = TypeVar("Result")

MAX_SECONDS = 10.0
"""Bar for the slowest image."""


def seeds() -> list[tuple[str, bytes]]:
    """Sound files to mutate, by extension: every format and mode that cameras, phones and scanners write."""
    face = draw_face("wear", "female", 40, 1, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    gray = np.asarray(face.convert("L"))
    files = [
        ("jpg", saved(face, "JPEG", quality=85)),
        ("jpg", saved(face, "JPEG", quality=85, progressive=True)),
        ("jpg", saved(face, "JPEG", exif=exif)),
        ("jpg", saved(face.convert("CMYK"), "JPEG")),
        ("jpg", saved(face.convert("L"), "JPEG")),
        ("mpo", saved(face, "MPO", save_all=True, append_images=[face])),
        ("png", saved(face, "PNG")),
        ("png", saved(face.convert("RGBA"), "PNG", exif=exif)),
        ("png", saved(face.quantize(32), "PNG", transparency=0)),
        ("png", saved(Image.fromarray(gray.astype(np.uint16) * 257), "PNG")),
        ("webp", saved(face, "WEBP")),
        ("webp", saved(face, "WEBP", lossless=True, exif=exif)),
        ("avif", saved(face, "AVIF")),
        ("gif", saved(face, "GIF")),
        ("bmp", saved(face, "BMP")),
        ("ppm", saved(face, "PPM")),
        ("tif", saved(face, "TIFF")),
        ("tif", saved(face, "TIFF", compression="tiff_lzw")),
        ("tif", saved(face, "TIFF", compression="jpeg")),
        ("tif", saved(Image.fromarray(gray.astype(np.float32)), "TIFF", compression="tiff_deflate")),
    ]
    heic = Path(__file__).parents[2] / "tests/faces/red-and-blue.heic"
    return [*files, ("heic", heic.read_bytes())]


def mutated(files: list[tuple[str, bytes]], number: int) -> tuple[str, bytes]:
    """Name and bytes of case `number`; always the same."""
    generator = np.random.default_rng([7, number])
    suffix, data = files[generator.integers(len(files))]
    if generator.random() < 0.1:
        suffix = files[generator.integers(len(files))][0]  # another ending than the content
    for _ in range(generator.integers(0, 4)):
        mutation = MUTATIONS[generator.integers(len(MUTATIONS))]
        data = mutation(bytearray(data), generator, files)
    return f"{number:06d}.{suffix}", data


def infer_mutated(run_folder: Path, work: Path, start: int, count: int) -> Tally:
    """`infer` of `count` mutated files."""
    return _infer(run_folder, work / f"images-{start}", partial(_mutated_cases, start, count))


def _mutated_cases(start: int, count: int) -> list[tuple[str, bytes]]:
    files = seeds()
    return [mutated(files, number) for number in range(start, start + count)]


def infer_large(run_folder: Path, work: Path) -> Tally:
    """`infer` of files that take as much memory and time as the limits allow, or more."""
    return _infer(run_folder, work / "images-large", _large_cases)


def _large_cases() -> list[tuple[str, bytes]]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (765, 1020, 3), np.uint8))
    phone = noise.resize((16320, 12240))
    square = noise.resize((7071, 7071))
    return [
        ("200-megapixels.jpg", saved(phone, "JPEG", quality=85)),
        ("200-megapixels-progressive.jpg", saved(phone, "JPEG", quality=75, progressive=True)),
        ("108-megapixels.jpg", saved(phone.crop((0, 0, 12000, 9000)), "JPEG", quality=90)),
        ("50.png", saved(square.convert("RGBA"), "PNG", compress_level=1)),
        ("50-gray.png", saved(square.convert("L").convert("I;16"), "PNG", compress_level=1)),
        ("50.avif", saved(square, "AVIF", speed=10, quality=60)),
        ("25.webp", saved(noise.resize((5000, 5000)), "WEBP", quality=50, method=0)),
        ("50.webp", saved(square, "WEBP", quality=50, method=0)),
        ("50.tif", saved(square.convert("CMYK"), "TIFF", compression="tiff_lzw")),
        ("100.png", saved(Image.new("1", (10_000, 10_000)), "PNG")),
        ("scans.jpg", many_scans(7000, 20_000)),
        ("400.png", saved(Image.new("1", (20_000, 20_000)), "PNG")),
    ]


def _write(cases: Callable[[], list[tuple[str, bytes]]], folder: Path) -> list[str]:
    """Write the files of some cases; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, data in cases():
        (folder / name).write_bytes(data)
        names.append(name)
    return names


def _infer(run_folder: Path, folder: Path, cases: Callable[[], list[tuple[str, bytes]]]) -> Tally:
    names = _in_child(_write, cases, folder / "images")
    tally = Tally(tried=len(names))
    (folder / "info.csv").write_text("\n".join(["ImageID,ans", *(f"{name},0" for name in names)]))
    outcome = run(
        "infer", folder, "--artifacts", run_folder, "--output", folder / "output", "--json", "--engine", "torch"
    )
    tally.peak_mib = outcome.peak_mib
    tally.check_text(folder.name, outcome.output)
    if outcome.code:
        tally.crashed.append(f"{folder.name}: exit {outcome.code}: {outcome.output[-300:]}")
        tally.lost = len(names)
        return tally
    rows = pd.read_csv(folder / "output/predictions.csv", dtype={"ImageID": str}, keep_default_na=False)
    submission = pd.read_csv(folder / "output/submission.csv", dtype={"ImageID": str}, keep_default_na=False)
    for table in (rows, submission):
        tally.lost += 0 if table["ImageID"].tolist() == names else abs(len(table) - len(names)) or len(names)
    reasons = _in_child(decode_each, folder / "images", names)
    for name, flags in zip(rows["ImageID"], rows["flags"], strict=True):
        reason, seconds = reasons[name]
        tally.refused += bool(reason)
        if flags.startswith("unreadable") != bool(reason) or (reason and flags != f"unreadable: {reason}"):
            tally.wrong.append(f"{name}: flag {flags!r}, decoding alone {reason!r}")
        tally.slowest = max(tally.slowest, seconds)
        if seconds > MAX_SECONDS:
            tally.wrong.append(f"{name}: {seconds:.1f} s")
    return tally


def _in_child(call: Callable[..., Result], *arguments: object) -> Result:
    """A call in a process of its own: a decoder may crash, and memory that it took would count as that of later commands."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def decode_each(folder: Path, names: list[str]) -> dict[str, tuple[str, float]]:
    """Why each file cannot be decoded (empty if it can), and the seconds it took."""
    result = {}
    for name in names:
        began, reason = time.monotonic(), ""
        try:
            decode(folder / name)
        except DecodeError as error:
            reason = error.reason
        result[name] = reason, time.monotonic() - began
    return result
