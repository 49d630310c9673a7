"""Changes of a file's bytes, from flipped bits to bombs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

Mutation = Callable[[bytearray, np.random.Generator, list[tuple[str, bytes]]], bytes]
"""(bytes, generator, other files by extension) → other bytes."""


def saved(image: Image.Image, format: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def flip(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    for position in generator.integers(len(data), size=generator.integers(1, 50)):
        data[position] ^= 1 << generator.integers(8)
    return bytes(data)


def cut(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    return bytes(data[: generator.integers(len(data))]) or b"\0"


def zero(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    first = generator.integers(len(data))
    last = min(len(data), first + generator.integers(1, 2000))
    data[first:last] = bytes(last - first)
    return bytes(data)


def insert(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    position = generator.integers(len(data))
    data[position:position] = generator.bytes(generator.integers(1, 500))
    return bytes(data)


def splice(data: bytearray, generator: np.random.Generator, files: list[tuple[str, bytes]]) -> bytes:
    other = files[generator.integers(len(files))][1]
    return bytes(data[: generator.integers(len(data))]) + other[generator.integers(len(other)) :]


def repeat(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    first = generator.integers(len(data))
    part = bytes(data[first : first + generator.integers(1, 300)])
    return bytes(data[:first]) + part * int(generator.integers(2, 2000)) + bytes(data[first:])


def extreme(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    """Numbers of the header become as large or small as they can be."""
    width = int(generator.choice([1, 2, 4, 8]))
    position = generator.integers(max(1, min(len(data), 600) - width))
    data[position : position + width] = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1)][
        generator.integers(3)
    ]
    return bytes(data)


def declare(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    """A PNG that declares another size, with a right checksum."""
    if data[:4] != b"\x89PNG":
        return bytes(data)
    side = [int(2 ** generator.integers(0, 31)) for _ in range(2)]
    header = b"IHDR" + struct.pack(">II", *side) + bytes(data[24:29])
    return bytes(data[:12]) + header + struct.pack(">I", zlib.crc32(header)) + bytes(data[33:])


def bomb(data: bytearray, generator: np.random.Generator, _: object) -> bytes:
    """Small files that decode to much, or take long."""
    kind = generator.integers(4)
    if kind == 0:
        return many_scans(int(generator.integers(10, 3000)), int(generator.integers(100, 5000)))
    if kind == 1:
        return saved(Image.new("1", (int(generator.integers(4000, 30_000)), 9000)), "PNG")
    if kind == 2 and data[:4] == b"\x89PNG":
        text = b"a\0\0" + zlib.compress(bytes(50_000_000), 9)
        chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
        return bytes(data[:33]) + chunk + bytes(data[33:])
    return saved(Image.new("L", (int(generator.integers(2000, 9000)), 7000), 128), "GIF")


def many_scans(side: int, scans: int) -> bytes:
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


ANY_FILE: tuple[Mutation, ...] = (flip, cut, zero, insert, extreme)
"""Mutations of files of any kind."""

MUTATIONS: tuple[Mutation, ...] = (flip, cut, zero, insert, splice, repeat, extreme, declare, bomb)
