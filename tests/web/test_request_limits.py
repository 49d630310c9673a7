"""Slow and endless requests end, on real connections; others are not disturbed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import numpy as np
import pytest
from stubs import encoded, explanation

pytest.importorskip("uvicorn", reason="the server needs pip install -e '.[web]'")

import uvicorn

from facecade.inference.explain import Explanation
from facecade.web import request_limits, turns
from facecade.web.api import make_api
from facecade.web.limits import Limits
from facecade.web.predictor import Predictor
from facecade.web.request_limits import HeaderTimeout

LIMIT_SECONDS = 0.4
HEAD = (
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 99999\r\n"
)
predicted: list[int] = []


def explain(image: np.ndarray, content: str) -> Explanation:
    predicted.append(image.shape[1])
    time.sleep(image.shape[1] / 1000)
    return explanation()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that waits LIMIT_SECONDS for headers and bodies; an image takes a millisecond for each pixel of its width."""
    monkeypatch.setattr(request_limits, "HEADER_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(request_limits, "BODY_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(turns, "CHECK_SECONDS", 0.05)
    predicted.clear()
    app = make_api(Predictor(explain, Limits(megabytes=1, files=3)), "1")
    server = uvicorn.Server(uvicorn.Config(app, http=HeaderTimeout, ws="none", log_level="error"))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as bound:
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield bound.getsockname()[1]
        server.should_exit = True
        thread.join()


def trickle(port: int, start: bytes, seconds: float = 5.0) -> tuple[float, bytes]:
    """Send the start of a request and then a byte now and then. Returns when the server closed, and what it sent."""
    began, received = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(0.05)
        connection.sendall(start)
        while time.monotonic() - began < seconds:
            try:
                data = connection.recv(2**16)
                if not data:
                    break
                received += data
            except TimeoutError:
                pass
            except ConnectionError:
                break
            with suppress(ConnectionError):
                connection.sendall(b"a")
    return time.monotonic() - began, received


def post(port: int, width: int = 10, timeout: float = 30) -> httpx.Response:
    files = {"images": ("a.png", encoded("PNG", (width, 10)))}
    return httpx.post(f"http://127.0.0.1:{port}/predict", files=files, timeout=timeout)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nx-", HEAD], ids=["nothing", "half a header", "no end"])
def test_a_connection_without_complete_headers_is_closed(start: bytes, port: int) -> None:
    seconds, received = trickle(port, start)
    assert LIMIT_SECONDS <= seconds < 2 and received == b""


def test_a_body_that_trickles_is_refused_and_closed(port: int) -> None:
    seconds, received = trickle(port, HEAD + b"\r\n--x\r\n")
    assert LIMIT_SECONDS <= seconds < 2
    assert b" 408 " in received and b"too slowly" in received


def test_bytes_after_a_refusal_do_not_keep_the_connection_open(port: int) -> None:
    start = HEAD.replace(b"99999", b"9999999999") + b"\r\n"
    seconds, received = trickle(port, start)
    assert seconds < 2 and b" 413 " in received


def test_a_slow_prediction_and_a_kept_connection_are_not_cut(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for width in (int(2000 * LIMIT_SECONDS), 10):  # longer than the limits, then again on the same connection
            files = {"images": ("a.png", encoded("PNG", (width, 10)))}
            assert client.post("/predict", files=files, timeout=30).status_code == 200


def test_slow_connections_do_not_delay_others(port: int) -> None:
    slow = [threading.Thread(target=trickle, args=(port, HEAD + b"\r\n")) for _ in range(60)]
    for thread in slow:
        thread.start()
    began = time.monotonic()
    assert post(port).status_code == 200 and time.monotonic() - began < 2
    for thread in slow:
        thread.join()


def test_two_hundred_requests_at_once_are_all_answered(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 60)  # 200 clients share this machine's cores
    monkeypatch.setattr(request_limits, "HEADER_SECONDS", 60)
    with ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(post, port) for _ in range(200)]
        began = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
        assert time.monotonic() - began < 10, "waiting requests hold no thread that others need"
        assert [each.result().status_code for each in waiting] == [200] * 200


def test_what_a_client_has_left_is_not_predicted(port: int) -> None:
    """Its turn would delay those that still wait."""
    busy = threading.Thread(target=post, args=(port, 1500))
    busy.start()
    while not predicted:
        time.sleep(0.01)
    with pytest.raises(httpx.ReadTimeout):
        post(port, 777, timeout=0.3)
    assert post(port, 20).status_code == 200
    busy.join()
    assert predicted == [1500, 20]


def test_more_than_may_wait_are_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 1)
    busy = threading.Thread(target=post, args=(port, 1000))
    busy.start()
    while not predicted:
        time.sleep(0.01)
    refused = post(port)
    busy.join()
    assert refused.status_code == 503 and refused.json()["error"]["hint"] and post(port).status_code == 200
