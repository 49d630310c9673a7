"""`POST /predict`: answers, refusals, and that the process stays up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stubs import a_face, coded, explanation

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

LIMITS = Limits(megabytes=1, pixels=1_000_000, files=3)


def client(explain: Callable[[np.ndarray, str], Explanation] = lambda *_: explanation(), **more: Any) -> TestClient:
    return TestClient(make_api(Predictor(explain, LIMITS, **more), "1"), raise_server_exceptions=False)


def sent(*files: tuple[str, bytes]) -> dict[str, Any]:
    return {"files": [("images", file) for file in files]}


def test_every_image_is_answered_for_in_order() -> None:
    answer = client().post("/predict", **sent(("b.jpg", coded()), ("a.png", coded("PNG"))))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["name"] for result in results] == ["b.jpg", "a.png"]
    assert [result["explanation"] for result in results] == [json.loads(json.dumps(explanation().json()))] * 2
    assert all("error" not in result for result in results)


def test_the_schema_knows_every_field_that_explain_gives() -> None:
    boxed = explanation(a_face(Box(1, 2, 30, 40, 0.99)), a_face(contributions=False), flag="trained-on").json()
    assert ExplanationModel.model_validate(boxed).model_dump(mode="json") == json.loads(json.dumps(boxed))


def test_one_bad_image_does_not_spoil_the_others() -> None:
    files = [("t.jpg", b"words"), ("good.jpg", coded()), ("large.bmp", coded("BMP", (700, 700)))]
    answer = client().post("/predict", **sent(*files))
    assert answer.status_code == 200
    text, good, large = answer.json()["results"]
    assert text["error"] | {"hint": ""} == {"status": 415, "message": "the file is no image", "hint": ""}
    assert good["explanation"]["faces"][0]["name"] == "wear male 30-59"
    assert large["error"]["status"] == 413 and "too large" in large["error"]["message"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"words", 415),
        (b"", 422),
        (coded(size=(300, 300))[:700], 422),
        (coded("BMP", (700, 700)), 413),
        (coded("PNG", (2000, 900)), 413),
    ],
    ids=["text", "empty", "truncated", "bytes", "pixels"],
)
def test_where_none_can_be_answered_for_the_status_says_why(data: bytes, status: int) -> None:
    answer = client().post("/predict", **sent(("p.jpg", data)))
    problem = answer.json()
    assert answer.status_code == status == problem["error"]["status"]
    assert problem["error"]["message"] and problem["error"]["hint"] and problem["results"][0]["name"] == "p.jpg"


def test_requests_without_images_are_told_what_to_send() -> None:
    server = client()
    none = server.post("/predict")
    assert none.status_code == 400 and none.json()["error"]["message"] == "no image was given"
    words = server.post("/predict", data={"images": "one.jpg"})
    assert words.status_code == 422 and "multipart" in words.json()["error"]["hint"]
    many = server.post("/predict", **sent(*[("p.jpg", coded())] * 4))
    assert many.status_code == 413 and "at most 3" in many.json()["error"]["hint"]
    elsewhere = server.get("/elsewhere")
    assert elsewhere.status_code == 404 and "/predict" in elsewhere.json()["error"]["hint"]


def test_a_request_that_is_too_large_is_refused_while_it_comes() -> None:
    server, most, taken = client(), LIMITS.request_bytes, 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        yield b'--x\r\ncontent-disposition: form-data; name="images"; filename="p"\r\n\r\n'
        for _ in range(2 * most // 2**16):
            taken += 2**16
            yield bytes(2**16)

    told = server.post("/predict", content=bytes(most + 1))
    untold = server.post("/predict", content=pieces(), headers={"content-type": "multipart/form-data; boundary=x"})
    for answer in (told, untold):
        assert answer.status_code == 413 and "too large" in answer.json()["error"]["message"]


def test_a_crash_is_answered_and_the_process_goes_on() -> None:
    def explain(image: np.ndarray, content: str) -> Explanation:
        if image.shape[0] == 13:
            raise RuntimeError("a secret path")
        return explanation()

    server = client(explain)
    crashed = server.post("/predict", **sent(("p.png", coded("PNG", (13, 13)))))
    assert crashed.status_code == 500 and crashed.json()["error"]["hint"] and "secret" not in crashed.text
    assert server.post("/predict", **sent(("p.png", coded("PNG")))).status_code == 200


def test_two_at_once_take_turns_and_both_are_answered() -> None:
    at_work, most = [0], [0]

    def explain(image: np.ndarray, content: str) -> Explanation:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.05)
        at_work[0] -= 1
        return explanation()

    server = client(explain)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.post("/predict", **sent(("p.jpg", coded()))), range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6 and most == [1]


def test_what_was_learned_from_is_flagged(tmp_path: Path) -> None:
    from facecade.base.files import content_hash

    (tmp_path / "known.jpg").write_bytes(coded())
    seen = {content_hash(tmp_path / "known.jpg"): "no-face trained-on"}
    server = client(lambda _, content: explanation(flag=seen.get(content, "no-face")))
    results = server.post("/predict", **sent(("k.jpg", coded()), ("new.png", coded("PNG")))).json()["results"]
    assert [result["explanation"]["flag"] for result in results] == ["no-face trained-on", "no-face"]


def test_it_is_documented_and_asks_nobody_else() -> None:
    server = client()
    described = server.get("/openapi.json").json()
    predict = described["paths"]["/predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "413", "415", "422", "500"}
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"PredictionsModel", "FaceModel", "ProblemModel"} <= set(described["components"]["schemas"])
    assert "At most 3 images" in described["info"]["description"]
    assert server.get("/docs").status_code == 404, "Swagger's page would be fetched from elsewhere"
    health = server.get("/health")
    assert health.json()["status"] == "ok" and health.json()["attention"] is False
    assert "default-src 'self'" in health.headers["content-security-policy"]


def test_an_engine_is_asked_as_infer_asks_it(fitted: Path, drawn: Path) -> None:
    image = sorted((drawn / "eval/images").iterdir())[0]
    answers = Predictor.open(fitted, Machine(engine="torch"), LIMITS)
    server = TestClient(make_api(answers, "1"))
    (result,) = server.post("/predict", **sent((image.name, image.read_bytes()))).json()["results"]
    assert result["explanation"] == json.loads(json.dumps(explain(fitted, image, Machine())))
    looked = answers.attention_overlays(answers(image, "p"))
    assert len(looked) == 7 and "joint-mask" in looked
