"""Requests of all kinds to a running server: each is answered in words, and memory does not grow."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from .images import mutated, seeds
from .running import kill, start
from .tally import Tally

EXPECTED = {200, 400, 403, 404, 405, 408, 413, 415, 422, 431}
"""Statuses of answers in words; others, and no answer at all, are failures."""

MAX_GROWTH = 1.1
"""Bar for the server's memory after all requests, against that after the first fifth."""

PATHS = [
    *("/", "/health", "/openapi.json", "/docs", "/predict", "/gradio_api/info", "/gradio_api/file=/etc/passwd"),
    *(
        "/gradio_api/file=../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/gradio_api/proxy=http://localhost/",
        "/\0",
        "/a" * 500,
    ),
    *("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/run/predict", "/static/../../x", "/theme.css"),
]


@contextmanager
def serving(run_folder: Path) -> Iterator[tuple[str, psutil.Process, Path]]:
    """A server's address, its process, and the file of what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        process = start(["serve", "--artifacts", run_folder, "--port", 0, "--engine", "torch"], log, {"NO_PROXY": "*"})
        try:
            while not (found := re.search(r"http://\S+", log.read_text())):
                if process.poll() is not None:
                    raise RuntimeError(f"serve failed: {log.read_text()}")
                time.sleep(0.1)
            yield found[0], psutil.Process(process.pid), log
        finally:
            kill(process)


def fuzz_server(run_folder: Path, count: int) -> Tally:
    """`count` requests, several at a time."""
    tally = Tally(tried=count)
    files = seeds()
    with serving(run_folder) as (address, process, log):
        before = _valid(address, files)
        with ThreadPoolExecutor(4) as pool:
            first = list(pool.map(lambda number: _send(tally, address, files, number), range(count // 5)))
            memory = process.memory_info().rss
            rest = list(pool.map(lambda number: _send(tally, address, files, number), range(count // 5, count)))
        tally.slowest = max([*first, *rest])
        after = process.memory_info().rss
        tally.peak_mib = after / 2**20
        if after > MAX_GROWTH * memory:
            tally.wrong.append(f"memory grew from {memory / 2**20:.0f} to {after / 2**20:.0f} MiB")
        if _valid(address, files) != before:
            tally.wrong.append("a valid request has another answer than at first")
        tally.check_text("serve", log.read_text(errors="replace"))
    return tally


def _valid(address: str, files: list[tuple[str, bytes]]) -> Any:
    response = httpx.post(f"{address}/predict", files={"images": ("a.jpg", files[0][1])}, timeout=60)
    response.raise_for_status()
    return response.json()


def _send(tally: Tally, address: str, files: list[tuple[str, bytes]], number: int) -> float:
    """Send request `number`, always the same; returns its seconds."""
    generator = np.random.default_rng([11, number])
    began = time.monotonic()
    case = f"request {number}"
    try:
        response = _request(address, files, number, generator)
        if response.status_code not in EXPECTED:
            tally.wrong.append(f"{case}: status {response.status_code}: {response.text[:200]}")
        elif response.status_code != 200:
            tally.refused += 1
        if "root:x:0" in response.text:
            tally.wrong.append(f"{case}: a file of the machine was shown")
    except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
        tally.refused += 1  # the server closed the connection of a request that it will not read to its end
    except (httpx.InvalidURL, UnicodeError):
        pass  # the client itself refuses to send it
    except httpx.TimeoutException as error:
        tally.crashed.append(f"{case}: {type(error).__name__}")
    return time.monotonic() - began


def _request(
    address: str, files: list[tuple[str, bytes]], number: int, generator: np.random.Generator
) -> httpx.Response:
    kind = generator.integers(8)
    predict = f"{address}/predict"
    if kind <= 2:  # images, sound and broken
        uploads = [("images", mutated(files, int(generator.integers(10**6)))) for _ in range(generator.integers(1, 4))]
        return httpx.post(predict, files=uploads, timeout=120)
    if kind == 3:  # a body that is no form
        types = ["multipart/form-data; boundary=x", "multipart/form-data", "application/json", "text/plain", ""]
        headers = {"content-type": str(generator.choice(types))}
        return httpx.post(predict, content=generator.bytes(generator.integers(0, 5000)), headers=headers, timeout=60)
    if kind == 4:  # a form with other fields, too many files, strange names
        names = ["images", "image", "x", "", "../../x", "a\r\nb", "\u202e.jpg"]
        uploads = [
            (str(generator.choice(names)), (str(generator.choice(names)), files[generator.integers(len(files))][1]))
            for _ in range(generator.choice([0, 1, 2, 40]))
        ]
        return httpx.post(predict, files=uploads or {"images": ("", b"")}, timeout=120)
    if kind == 5:  # values that the page never sends
        values: list[Any] = [
            None,
            7,
            "x",
            {},
            {"path": "/etc/passwd"},
            {"path": None},
            [{"path": "/etc/hosts"}],
            {"url": "http://x"},
        ]
        values.append({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}})
        body = {
            "data": [values[generator.integers(len(values))]],
            "fn_index": int(generator.integers(-1, 4)),
            "session_hash": "x",
        }
        where = ["run/predict", "queue/join", "api/predict", "call/one"][generator.integers(4)]
        return httpx.post(f"{address}/gradio_api/{where}", json=body, timeout=60)
    if kind == 6:  # other hosts and origins
        headers = {
            str(generator.choice(["host", "origin"])): str(
                generator.choice(["evil.example", "null", "http://x:1", "localhost"])
            )
        }
        return httpx.get(f"{address}/health", headers=headers, timeout=60)
    method = str(generator.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"]))
    return httpx.request(method, address + str(generator.choice(PATHS)), timeout=60)
