"""`POST /predict`: results, errors, and that the server survives a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stubs import encoded, explained_face, explanation

from facecade.inference.explain_image import explain

pytest.importorskip("fastapi", reason="the server needs pip install -e '.[web]'")

from fastapi.testclient import TestClient

from facecade.base.machine import Machine
from facecade.faces.crop import Box
from facecade.inference.explain import Explanation
from facecade.web.api import make_api
from facecade.web.limits import Limits
from facecade.web.predictor import Predictor
from facecade.web.schema import ExplanationModel

LIMITS = Limits(megabytes=1, files=3)


def client(explain: Callable[[np.ndarray, str], Explanation] = lambda *_: explanation(), **more: Any) -> TestClient:
    return TestClient(make_api(Predictor(explain, LIMITS, **more), "1"), raise_server_exceptions=False)


def upload(*files: tuple[str, bytes]) -> dict[str, Any]:
    return {"files": [("images", file) for file in files]}


def test_every_image_is_predicted_in_order() -> None:
    response = client().post("/predict", **upload(("b.jpg", encoded()), ("a.png", encoded("PNG"))))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["name"] for result in results] == ["b.jpg", "a.png"]
    assert [result["explanation"] for result in results] == [json.loads(json.dumps(explanation().json()))] * 2
    assert all("error" not in result for result in results)


def test_the_schema_has_every_field_of_explain() -> None:
    record = explanation(
        explained_face(Box(1, 2, 30, 40, 0.99)), explained_face(contributions=False), flag="trained-on"
    ).json()
    assert ExplanationModel.model_validate(record).model_dump(mode="json") == json.loads(json.dumps(record))


def test_one_bad_image_does_not_affect_the_others() -> None:
    files = [("t.jpg", b"words"), ("good.jpg", encoded()), ("large.bmp", encoded("BMP", (700, 700)))]
    response = client().post("/predict", **upload(*files))
    assert response.status_code == 200
    text, good, large = response.json()["results"]
    assert text["error"] | {"hint": ""} == {"status": 415, "message": "the file is not an image", "hint": ""}
    assert good["explanation"]["faces"][0]["name"] == "wear male 30-59"
    assert large["error"]["status"] == 413 and "too large" in large["error"]["message"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"words", 415),
        (b"", 422),
        (encoded(size=(300, 300))[:700], 422),
        (encoded("BMP", (700, 700)), 413),
        (encoded("PNG", (10_000, 8_000), "1"), 413),
    ],
    ids=["text", "empty", "truncated", "bytes", "pixels"],
)
def test_the_status_is_the_first_error_if_no_image_can_be_predicted(data: bytes, status: int) -> None:
    response = client().post("/predict", **upload(("p.jpg", data)))
    problem = response.json()
    assert response.status_code == status == problem["error"]["status"]
    assert problem["error"]["message"] and problem["error"]["hint"] and problem["results"][0]["name"] == "p.jpg"


def test_requests_without_images_get_a_hint() -> None:
    server = client()
    none = server.post("/predict")
    assert none.status_code == 400 and none.json()["error"]["message"] == "no image was given"
    words = server.post("/predict", data={"images": "one.jpg"})
    assert words.status_code == 422 and "multipart" in words.json()["error"]["hint"]
    many = server.post("/predict", **upload(*[("p.jpg", encoded())] * 4))
    assert many.status_code == 413 and "at most 3" in many.json()["error"]["hint"]
    elsewhere = server.get("/elsewhere")
    assert elsewhere.status_code == 404 and "/predict" in elsewhere.json()["error"]["hint"]


def test_a_request_that_is_too_large_is_refused_while_it_arrives() -> None:
    server, max_bytes, produced = client(), LIMITS.request_bytes, 0

    def pieces() -> Iterator[bytes]:
        nonlocal produced
        yield b'--x\r\ncontent-disposition: form-data; name="images"; filename="p"\r\n\r\n'
        for _ in range(2 * max_bytes // 2**16):
            produced += 2**16
            yield bytes(2**16)

    with_length = server.post("/predict", content=bytes(max_bytes + 1))
    without_length = server.post(
        "/predict", content=pieces(), headers={"content-type": "multipart/form-data; boundary=x"}
    )
    for response in (with_length, without_length):
        assert response.status_code == 413 and "too large" in response.json()["error"]["message"]


def test_after_a_crash_the_server_continues() -> None:
    def explain(image: np.ndarray, content: str) -> Explanation:
        if image.shape[0] == 13:
            raise RuntimeError("a secret path")
        return explanation()

    server = client(explain)
    crashed = server.post("/predict", **upload(("p.png", encoded("PNG", (13, 13)))))
    assert crashed.status_code == 500 and crashed.json()["error"]["hint"] and "secret" not in crashed.text
    assert server.post("/predict", **upload(("p.png", encoded("PNG")))).status_code == 200


def test_concurrent_requests_take_turns() -> None:
    running, max_running = [0], [0]

    def explain(image: np.ndarray, content: str) -> Explanation:
        running[0] += 1
        max_running[0] = max(max_running[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return explanation()

    server = client(explain)
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: server.post("/predict", **upload(("p.jpg", encoded()))), range(6)))
    assert [response.status_code for response in responses] == [200] * 6 and max_running == [1]


def test_training_images_are_flagged(tmp_path: Path) -> None:
    from facecade.base.files import content_hash

    (tmp_path / "known.jpg").write_bytes(encoded())
    flags = {content_hash(tmp_path / "known.jpg"): "no-face trained-on"}
    server = client(lambda _, content: explanation(flag=flags.get(content, "no-face")))
    results = server.post("/predict", **upload(("k.jpg", encoded()), ("new.png", encoded("PNG")))).json()["results"]
    assert [result["explanation"]["flag"] for result in results] == ["no-face trained-on", "no-face"]


def test_openapi_security_headers_and_health() -> None:
    server = client()
    openapi = server.get("/openapi.json").json()
    predict = openapi["paths"]["/predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "408", "413", "415", "422", "500", "503"}
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"PredictionsModel", "FaceModel", "ProblemModel"} <= set(openapi["components"]["schemas"])
    assert "At most 3 images" in openapi["info"]["description"]
    assert server.get("/docs").status_code == 404, "Swagger's page would load files from other hosts"
    health = server.get("/health")
    assert health.json()["status"] == "ok" and health.json()["attention"] is False
    assert "default-src 'self'" in health.headers["content-security-policy"]


def test_predictions_are_those_of_explain(fitted: Path, drawn: Path) -> None:
    image = sorted((drawn / "eval/images").iterdir())[0]
    predictor = Predictor.open(fitted, Machine(engine="torch"), LIMITS)
    server = TestClient(make_api(predictor, "1"))
    (result,) = server.post("/predict", **upload((image.name, image.read_bytes()))).json()["results"]
    assert result["explanation"] == json.loads(json.dumps(explain(fitted, image, Machine())))
    overlays = predictor.attention_overlays(predictor(image, "p"))
    assert len(overlays) == 7 and "joint-mask" in overlays
