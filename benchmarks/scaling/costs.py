"""What one photograph costs beside the networks: its row of the listing, a request, decoding, and its row of a part. One thread each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from PIL import Image

from facecade.base.storage import open_folder
from facecade.faces.decode import decode
from facecade.faces.listing_table import SHARD_ROWS, ListingTable
from facecade.faces.synthetic import draw_face
from facecade.inference.parts import write_part

from .listings import Job, cores, job, part_files, reference

SIZES = ((384, 512), (3000, 4000))
"""Heights and widths of the photographs that are decoded: of the competition, and of a telephone."""

GROUP_ROWS = 100_000
"""Rows of a row group of the listing."""

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
body = open(sys.argv[1], "rb").read()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 26
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def measure(work: Path, rows: int) -> dict[str, Any]:
    """Seconds, bytes and rates; a listing is read with 100 times as many rows as are predicted."""
    listed = job(work, rows)
    reference(listed)
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores()[:1]))
    try:
        photographs = [photograph(work, height, width) for height, width in SIZES]
        return {
            "decoding": [decoding(path) for path in photographs],
            "request": requests(photographs[0], 2000),
            "listing": [listing(work, rows * 100, suffix) for suffix in ("parquet", "csv")],
            "part": part(listed),
        }
    finally:
        os.sched_setaffinity(0, own)


def photograph(work: Path, height: int, width: int) -> Path:
    """A drawn face with a camera's noise: a drawing alone is far too small a JPEG."""
    path = work / f"photograph-{height}.jpg"
    if not path.exists():
        face = draw_face("wear", "female", 40, person_seed=1, image_seed=1).resize((width, height))
        coarse = np.random.default_rng(1).integers(0, 25, (height // 2, width // 2), np.uint8)
        noise = np.asarray(Image.fromarray(coarse).resize((width, height)), int)
        noisy = np.clip(np.asarray(face, int) + noise[:, :, None] - 12, 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(path, quality=85)
    return path


def per_call(call: Callable[[], object], seconds: float = 3.0) -> float:
    """Seconds of processor time of a call, of the calls in so many seconds."""
    call()
    count, ends, started = 0, time.monotonic() + seconds, time.process_time()
    while time.monotonic() < ends:
        call()
        count += 1
    return (time.process_time() - started) / count


def decoding(path: Path) -> dict[str, Any]:
    height, width, _ = decode(path).shape
    return {"size": [height, width], "bytes": path.stat().st_size, "seconds": per_call(lambda: decode(path))}


def requests(path: Path, count: int) -> dict[str, Any]:
    """GETs of a file from a server on this machine, over one connection that is kept open."""
    words = [sys.executable, "-c", SERVER, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            connection = HTTPConnection("127.0.0.1", int(server.stdout.readline()))
            started = time.process_time()
            for _ in range(count):
                connection.request("GET", "/photograph.jpg")
                connection.getresponse().read()
            seconds = (time.process_time() - started) / count
            connection.close()
        finally:
            server.kill()
    return {"bytes": path.stat().st_size, "requests": count, "seconds": seconds}


def listing(work: Path, rows: int, suffix: str) -> dict[str, Any]:
    """What reading all rows takes as a command of Ray does, and passing over all of them as a process of many does."""
    path = work / f"long-{rows}.{suffix}"
    if not path.exists():
        numbers = range(rows)
        table = pa.table(
            {
                "id": [f"p{number:012d}" for number in numbers],
                "uri": [f"s3://photographs/2026/{number // 100_000:05d}/p{number:012d}.jpg" for number in numbers],
            }
        )
        if suffix == "csv":
            pa.csv.write_csv(table, path)
        else:
            pq.write_table(table, path, row_group_size=GROUP_ROWS)
    started = time.process_time()
    dealt = sum(len(shard.ids) for shard in ListingTable(path).read())
    read = time.process_time() - started
    if dealt != rows:
        raise RuntimeError(f"{path}: {dealt} rows of {rows}")
    started = time.process_time()
    table = ListingTable(path)
    last = table.shards - 1
    list(table.read(lambda number: number == last))
    passed = time.process_time() - started
    result = {"kind": suffix, "rows": rows, "bytes": path.stat().st_size, "read": read / rows, "passed": passed / rows}
    path.unlink()
    return result


def part(listed: Job) -> dict[str, Any]:
    """Writing a part of as many rows as a shard has by default, made of smaller ones. Its numbers are drawn: those of a few hundred
    faces again and again are compressed to almost nothing."""
    files = part_files(listed.work / f"parts/reference-{listed.rows}")
    table = pa.concat_tables([pq.read_table(path) for path in files]).unify_dictionaries()
    table = table.slice(0, SHARD_ROWS).combine_chunks()
    generator = np.random.default_rng(1)
    for index, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = generator.random(len(table)).astype(field.type.to_pandas_dtype())
            table = table.set_column(index, field, pa.array(values))
    folder = open_folder(listed.work / "parts/cost")
    seconds = per_call(lambda: write_part(folder, 0, table))
    size = (listed.work / "parts/cost/part-000000.parquet").stat().st_size
    return {"rows": len(table), "bytes": size / len(table), "seconds": seconds / len(table)}
