"""`serve`: the command, and its page in a real browser.

The browser is Debian's Chromium, driven by Playwright, which `pip install -e '.[dev]'` brings; without Chromium
(`apt-get install chromium`) these tests are skipped.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import call, succeed
from stubs import encoded

pytest.importorskip("gradio", reason="the page needs pip install -e '.[web]'")

from facecade.faces.words import in_words, prediction_in_words
from facecade.web import hosts, serve

TIMEOUT_MS = 90_000
"""Long enough for a machine with few, shared cores."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address(fitted: Path) -> Iterator[str]:
    """The command running in its own process, stopped by Ctrl-C."""
    arguments = ["serve", "--artifacts", fitted, "--port", "0", "--engine", "torch", "--max-megabytes", "1"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "cli.py", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "*"},
    )
    assert process.stdout
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), process.stderr and process.stderr.read()
    yield url
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.splitlines()[-1]) == (0, "", "stopped") and "KeyboardInterrupt" not in err, err


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The opened page; all its requests must go to its own host."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(TIMEOUT_MS)
    requested: list[str] = []
    tab.on("request", lambda request: requested.append(request.url))
    tab.goto(address)
    tab.wait_for_selector("#image input[type=file]", state="attached")
    yield tab
    tab.close()
    elsewhere = [url for url in requested if url.startswith("http") and not url.startswith(f"{address}/")]
    assert len(requested) > 3 and elsewhere == []


def post_to_page(address: str, data: Any, function: int = 0, **headers: str) -> httpx.Response:
    """A handler of the page called with values that Gradio's own page would never send."""
    body = {"data": data, "fn_index": function, "session_hash": "test"}
    return httpx.post(f"{address}/gradio_api/queue/join", json=body, headers=headers, timeout=60)


def test_the_page_reads_no_file_but_uploads(address: str, drawn: Path, tmp_path: Path) -> None:
    """Neither the content nor the existence of other files is told, whatever the value looks like."""
    image = sorted((drawn / "eval/images").iterdir())[0]
    scratch = Path(tempfile.gettempdir())
    link = tmp_path / "link.jpg"
    link.symlink_to(image)
    paths: list[Any] = [str(image), str(link), str(tmp_path / "nowhere.jpg"), "/etc/passwd"]
    answers = set()
    for path in [*paths, f"{scratch}/facecade-x/../../etc/passwd", "", "\0", 7, None]:
        for meta in ({}, {"meta": {"_type": "gradio.FileData"}}):
            value = {"path": path, "orig_name": "a.jpg", **meta}
            for function, sent in ((0, [value]), (1, [[value], False])):
                response = post_to_page(address, sent, function)
                answers.add((response.status_code, response.text))
    assert {status for status, _ in answers} == {422} and len(answers) == 1, "whether the file exists or not"


@pytest.mark.parametrize(
    "value", ["text", 5, {}, {"path": {"path": "x"}}, [1], [{"path": "/etc/passwd"}], {"url": "http://x"}]
)
@pytest.mark.parametrize("function", [-1, 0, 1, 2, 5])
def test_values_that_the_page_never_sends_are_refused(address: str, value: Any, function: int) -> None:
    for data in (value, [value], [value, True], [[value], 1]):
        response = post_to_page(address, data, function)
        assert response.status_code == 422 and response.json()["error"]["hint"]


@pytest.mark.parametrize(
    "endpoint", ["run/predict", "api/predict", "call/one", "proxy=http://127.0.0.1", "vibe-edit", "stream/1"]
)
def test_endpoints_of_gradio_that_the_page_does_not_use_are_refused(address: str, endpoint: str) -> None:
    assert httpx.post(f"{address}/gradio_api/{endpoint}", json={"data": [None], "fn_index": 0}).status_code == 404
    assert httpx.get(f"{address}/gradio_api/{endpoint}").status_code == 404


def test_a_call_that_is_too_large_is_refused(address: str) -> None:
    assert post_to_page(address, [[{"path": "x" * 300_000}], False], 1).status_code == 413


def test_the_page_downloads_no_urls(address: str) -> None:
    requested: list[str] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for url in (f"http://127.0.0.1:{server.server_port}/a.png", "http://facecade.invalid/a.png"):
            for extra in ({}, {"url": url}):
                response = post_to_page(address, [{"path": url, "meta": {"_type": "gradio.FileData"}, **extra}])
                assert response.status_code == 422
        server.shutdown()
    assert requested == []


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:7860", "[::2]:80"]
)
def test_unknown_hosts_are_refused(address: str, host: str) -> None:
    for path in ("/", "/health", "/gradio_api/info"):
        response = httpx.get(f"{address}{path}", headers={"host": host})
        assert response.status_code == 400 and "access-control-allow-origin" not in response.headers
    assert post_to_page(address, [None], host=host).status_code == 400


def test_names_of_this_machine_are_served(address: str) -> None:
    port = address.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert httpx.get(f"{address}/health", headers={"host": host}).status_code == 200, host


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:1"])
def test_pages_of_other_origins_are_refused(address: str, origin: str, drawn: Path) -> None:
    image = sorted((drawn / "eval/images").iterdir())[0]
    with image.open("rb") as file:
        response = httpx.post(f"{address}/predict", files={"images": file}, headers={"origin": origin}, timeout=60)
    assert response.status_code == 403 and "access-control-allow-origin" not in response.headers
    assert post_to_page(address, [None], origin=origin).status_code == 403
    with image.open("rb") as file:
        own = httpx.post(f"{address}/predict", files={"images": file}, headers={"origin": address}, timeout=60)
    assert own.status_code == 200


def fits_a_phone(page: Any, selector: str) -> bool:
    """Whether nothing overflows the selected elements or the page at a phone's width."""
    page.set_viewport_size({"width": 390, "height": 844})
    overflowing = page.eval_on_selector_all(
        selector, "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
    )
    return (
        overflowing == 0
        and page.locator(selector).count() > 0
        and page.evaluate("document.documentElement.scrollWidth") == 390
    )


def test_an_uploaded_image_is_explained(page: Any, fitted: Path, drawn: Path) -> None:
    image = sorted((drawn / "eval/images").iterdir())[0]
    (face,) = json.loads(succeed("explain", image, "--artifacts", fitted, "--json"))["faces"]
    page.set_input_files("#image input[type=file]", image)
    page.wait_for_selector("#answer .fc-card")
    text = page.inner_text("#answer")
    assert prediction_in_words(face["prediction"], face["age"]) in text and image.name in text
    assert f"probability {face['probability'][face['prediction']]:.2f}" in text and "Uncertainty." in text
    for target in ("mask", "gender", "band"):
        assert all(f"{value:.2f}" in text for value in face[target].values())
    for regressor in face["regressors"]:
        of, band = {"male": "men", "female": "women"}[regressor["gender"]], in_words(regressor["band"])
        assert f"Regressor for {of} {regressor['years']:.1f} years: {band}" in text
        assert all(f"{cut:.1f}" in text for cut in regressor["cuts"])
    page.wait_for_selector("#attention .fc-card img")
    assert page.locator("#attention img").count() == 7
    for summary in page.locator("#answer summary").all():
        summary.click()
    assert fits_a_phone(page, "#answer .fc-card") and fits_a_phone(page, "#attention .fc-card")
    table = page.locator("#answer .scroll").first  # wider than a phone: it scrolls, and shows that it does
    assert table.evaluate("each => each.scrollWidth > each.clientWidth")
    assert "gradient" in table.evaluate("each => getComputedStyle(each).backgroundImage")
    assert table.locator("td").first.evaluate("each => getComputedStyle(each).position") == "sticky"


def test_a_file_that_is_not_an_image_is_refused_and_the_next_is_predicted(
    page: Any, drawn: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.jpg").write_text("no image")
    page.set_input_files("#image input[type=file]", tmp_path / "words.jpg")
    page.wait_for_selector("#answer .fc-bad")
    assert not page.locator("#image img:visible").count(), "no icon of a broken image"
    assert "The file is not an image. Send an image as JPEG" in page.inner_text("#answer")
    page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.click()
    page.wait_for_selector("#answer .fc-bad", state="detached")
    page.set_input_files("#image input[type=file]", sorted((drawn / "eval/images").iterdir())[0])
    page.wait_for_selector("#answer .fc-card")


def test_a_batch_is_downloaded_as_infer_writes_it(page: Any, fitted: Path, drawn: Path, tmp_path: Path) -> None:
    images = sorted((drawn / "eval/images").iterdir())[:3]
    (tmp_path / "some").mkdir()
    copies = [Path(shutil.copy(image, tmp_path / "some")) for image in images]
    (tmp_path / "words (1).jpg").write_text("no image")
    page.get_by_role("tab", name="Several").click()
    page.set_input_files("#images input[type=file]", [*copies, tmp_path / "words (1).jpg"])
    page.wait_for_selector("#batch table")
    assert page.locator("#batch tbody tr").count() == 4 and "4 images, 1 refused" in page.inner_text("#batch")
    assert fits_a_phone(page, "#batch td")
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename == "predictions.csv"
    waiting.value.save_as(tmp_path / "predictions.csv")
    succeed("infer", tmp_path / "some", "--artifacts", fitted, "--engine", "torch", "--output", tmp_path / "output")
    *same, last = (tmp_path / "predictions.csv").read_text().splitlines()
    assert same == (tmp_path / "output/predictions.csv").read_text().splitlines()
    page.locator("#every-face input").check()
    page.wait_for_function("document.querySelectorAll('#batch tbody tr').length == 4")
    assert last.startswith("words (1).jpg,,") and "unreadable: the file is not an image" in last


def test_a_face_is_drawn_on_request_and_the_page_says_what_it_is_good_for(page: Any, fitted: Path) -> None:
    score = json.loads((fitted / "combiner/meta.json").read_text())["nested_choice"]["macro-F1"]["value"]
    head = page.inner_text(".fc-head")
    assert f"nested macro-F1 {score:.2f}" in head and "not for decisions about people" in head
    assert "Unsure is what has a confidence below 50 %" in head
    assert fitted.resolve().name in head and "This run looks for no faces" in head
    for button in page.locator("#examples button").all():
        page.locator("#answer").evaluate("each => each.querySelector('.fc-card')?.remove()")
        button.click()
        page.wait_for_selector("#answer .fc-card")
    assert "drawn.png" in page.inner_text("#answer") and fits_a_phone(page, "#answer .fc-card")


def test_the_api_and_the_page_share_a_process(address: str) -> None:
    httpx = pytest.importorskip("httpx")
    files = [("images", ("grey.png", encoded("PNG"))), ("images", ("words.txt", b"words"))]

    def post(_: int) -> Any:
        return httpx.post(f"{address}/predict", files=files, timeout=60).json()["results"]

    with ThreadPoolExecutor(2) as pool:
        results, others = pool.map(post, range(2))
    assert results == others, "concurrent requests must not mix"
    assert len(results[0]["explanation"]["faces"]) == 1 and results[1]["error"]["status"] == 415
    assert "/predict" in httpx.get(f"{address}/openapi.json").json()["paths"]
    large = httpx.post(f"{address}/gradio_api/upload", files={"files": ("large.png", bytes(2 * 2**20))}, timeout=60)
    assert large.status_code == 413


def test_a_taken_port_and_other_errors_are_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = call("serve", "--artifacts", tmp_path, "--port", port)
    assert (
        result.exit_code == 1 and f"port {port} of 127.0.0.1 is taken" in result.stderr and "--port 0" in result.stderr
    )
    result = call("serve", "--artifacts", tmp_path, "--port", 0)
    assert result.exit_code == 1 and "holds no run" in result.stderr and "anyone" not in result.stderr
    result = call("serve", "--artifacts", tmp_path, "--port", 0, "--host", "0.0.0.0")
    assert result.exit_code == 1 and "anyone who can reach 0.0.0.0 can send images" in result.stderr
    result = call("serve", "--artifacts", tmp_path, "--port", 0, "--host", "no.such.host.invalid")
    assert result.exit_code == 1 and "unknown host" in result.stderr
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    result = call("serve", "--artifacts", tmp_path)
    assert result.exit_code == 1 and "needs Gradio" in result.stderr and ".[web]" in result.stderr


def test_loopback_hosts_and_urls() -> None:
    assert [hosts.is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.0.2")] == [
        *[True] * 3,
        *[False] * 2,
    ]
    assert serve._url("0.0.0.0", 1) == "http://127.0.0.1:1" and serve._url("::", 1) == "http://[::1]:1"
