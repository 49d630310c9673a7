"""Broken image files: every row that was asked for is there, in order, with the flag that decoding alone gives."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from facecade.faces.decode import DecodeError, decode
from facecade.faces.synthetic import draw_face

from .running import run
from .tally import Tally

MAX_SECONDS = 10.0
"""Bar for the slowest image."""


def seeds() -> list[tuple[str, bytes]]:
    """Sound files to mutate, by extension: every format and mode that cameras, phones and scanners write."""
    face = draw_face("wear", "female", 40, 1, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    gray = np.asarray(face.convert("L"))
    files = [
        ("jpg", _saved(face, "JPEG", quality=85)),
        ("jpg", _saved(face, "JPEG", quality=85, progressive=True)),
        ("jpg", _saved(face, "JPEG", exif=exif)),
        ("jpg", _saved(face.convert("CMYK"), "JPEG")),
        ("jpg", _saved(face.convert("L"), "JPEG")),
        ("mpo", _saved(face, "MPO", save_all=True, append_images=[face])),
        ("png", _saved(face, "PNG")),
        ("png", _saved(face.convert("RGBA"), "PNG", exif=exif)),
        ("png", _saved(face.quantize(32), "PNG", transparency=0)),
        ("png", _saved(Image.fromarray(gray.astype(np.uint16) * 257), "PNG")),
        ("webp", _saved(face, "WEBP")),
        ("webp", _saved(face, "WEBP", lossless=True, exif=exif)),
        ("avif", _saved(face, "AVIF")),
        ("gif", _saved(face, "GIF")),
        ("bmp", _saved(face, "BMP")),
        ("ppm", _saved(face, "PPM")),
        ("tif", _saved(face, "TIFF")),
        ("tif", _saved(face, "TIFF", compression="tiff_lzw")),
        ("tif", _saved(face, "TIFF", compression="jpeg")),
        ("tif", _saved(Image.fromarray(gray.astype(np.float32)), "TIFF", compression="tiff_deflate")),
    ]
    heic = Path(__file__).parents[2] / "tests/faces/red-and-blue.heic"
    return [*files, ("heic", heic.read_bytes())]


def mutated(files: list[tuple[str, bytes]], number: int) -> tuple[str, bytes]:
    """Name and bytes of case `number`; always the same."""
    generator = np.random.default_rng([7, number])
    suffix, data = files[generator.integers(len(files))]
    if generator.random() < 0.1:
        suffix = files[generator.integers(len(files))][0]  # another ending than the content
    mutations: list[Callable[[bytearray, np.random.Generator, list[tuple[str, bytes]]], bytes]] = [
        _flip, _cut, _zero, _insert, _splice, _repeat, _extreme, _declare, _bomb,
    ]  # fmt: skip
    for _ in range(generator.integers(0, 4)):
        mutation = mutations[generator.integers(len(mutations))]
        data = mutation(bytearray(data), generator, files)
    return f"{number:06d}.{suffix}", data


def infer_mutated(run_folder: Path, work: Path, start: int, count: int) -> Tally:
    """`infer` of `count` mutated files."""
    files = seeds()
    return _infer(
        run_folder, work / f"images-{start}", [mutated(files, number) for number in range(start, start + count)]
    )


def infer_large(run_folder: Path, work: Path) -> Tally:
    """`infer` of files that take as much memory and time as the limits allow, or more."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (765, 1020, 3), np.uint8))
    phone = noise.resize((16320, 12240))
    square = noise.resize((7071, 7071))
    cases = [
        ("200-megapixels.jpg", _saved(phone, "JPEG", quality=85)),
        ("200-megapixels-progressive.jpg", _saved(phone, "JPEG", quality=75, progressive=True)),
        ("108-megapixels.jpg", _saved(phone.crop((0, 0, 12000, 9000)), "JPEG", quality=90)),
        ("50.png", _saved(square.convert("RGBA"), "PNG", compress_level=1)),
        ("50-gray.png", _saved(square.convert("L").convert("I;16"), "PNG", compress_level=1)),
        ("50.webp", _saved(square, "WEBP", quality=50, method=0)),
        ("50.tif", _saved(square.convert("CMYK"), "TIFF", compression="tiff_lzw")),
        ("100.png", _saved(Image.new("1", (10_000, 10_000)), "PNG")),
        ("scans.jpg", _scans(7000, 20_000)),
        ("400.png", _saved(Image.new("1", (20_000, 20_000)), "PNG")),
    ]
    return _infer(run_folder, work / "images-large", cases)


def _infer(run_folder: Path, folder: Path, cases: list[tuple[str, bytes]]) -> Tally:
    tally = Tally(tried=len(cases))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, data in cases:
        (folder / "images" / name).write_bytes(data)
    names = [name for name, _ in cases]
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
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a crash of a decoder is one of that process
        reasons = pool.submit(decode_each, folder / "images", names).result()
    for name, flags in zip(rows["ImageID"], rows["flags"], strict=True):
        reason, seconds = reasons[name]
        tally.refused += bool(reason)
        if flags.startswith("unreadable") != bool(reason) or (reason and flags != f"unreadable: {reason}"):
            tally.wrong.append(f"{name}: flag {flags!r}, decoding alone {reason!r}")
        tally.slowest = max(tally.slowest, seconds)
        if seconds > MAX_SECONDS:
            tally.wrong.append(f"{name}: {seconds:.1f} s")
    return tally


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


def _saved(image: Image.Image, format: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def _flip(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    for position in generator.integers(len(data), size=generator.integers(1, 50)):
        data[position] ^= 1 << generator.integers(8)
    return bytes(data)


def _cut(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    return bytes(data[: generator.integers(len(data))]) or b"\0"


def _zero(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    first = generator.integers(len(data))
    last = min(len(data), first + generator.integers(1, 2000))
    data[first:last] = bytes(last - first)
    return bytes(data)


def _insert(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    position = generator.integers(len(data))
    data[position:position] = generator.bytes(generator.integers(1, 500))
    return bytes(data)


def _splice(data: bytearray, generator: np.random.Generator, files: list[tuple[str, bytes]]) -> bytes:
    other = files[generator.integers(len(files))][1]
    return bytes(data[: generator.integers(len(data))]) + other[generator.integers(len(other)) :]


def _repeat(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    first = generator.integers(len(data))
    part = bytes(data[first : first + generator.integers(1, 300)])
    return bytes(data[:first]) + part * int(generator.integers(2, 2000)) + bytes(data[first:])


def _extreme(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    """Numbers of the header become as large or small as they can be."""
    width = int(generator.choice([1, 2, 4, 8]))
    position = generator.integers(max(1, min(len(data), 600) - width))
    data[position : position + width] = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1)][
        generator.integers(3)
    ]
    return bytes(data)


def _declare(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    """A PNG that declares another size, with a right checksum."""
    if data[:4] != b"\x89PNG":
        return bytes(data)
    side = [int(2 ** generator.integers(0, 31)) for _ in range(2)]
    header = b"IHDR" + struct.pack(">II", *side) + bytes(data[24:29])
    return bytes(data[:12]) + header + struct.pack(">I", zlib.crc32(header)) + bytes(data[33:])


def _bomb(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    """Small files that decode to much, or take long."""
    kind = generator.integers(4)
    if kind == 0:
        return _scans(int(generator.integers(10, 3000)), int(generator.integers(100, 5000)))
    if kind == 1:
        return _saved(Image.new("1", (int(generator.integers(4000, 30_000)), 9000)), "PNG")
    if kind == 2 and data[:4] == b"\x89PNG":
        text = b"a\0\0" + zlib.compress(bytes(50_000_000), 9)
        chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
        return bytes(data[:33]) + chunk + bytes(data[33:])
    return _saved(Image.new("L", (int(generator.integers(2000, 9000)), 7000), 128), "GIF")


def _scans(side: int, scans: int) -> bytes:
    """A progressive JPEG of many scans without content."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content

    blocks = ((side + 7) // 8) ** 2
    start = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    start += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    start += segment(0xC4, b"\0\1" + bytes(16)) + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    start += segment(0xDA, b"\1\1\0\0\0\0") + bytes((blocks + 7) // 8)
    scan = segment(0xDA, b"\1\1\0\1\x3f\0") + bytes((-(-blocks // 16384) * 15 + 7) // 8)
    return start + scan * scans + b"\xff\xd9"
