"""What is said where no Ray cluster answers."""

from __future__ import annotations

import pytest

from facecade.base.errors import FacecadeError
from facecade.base.ray_cluster import connect

ray = pytest.importorskip("ray")


def test_a_cluster_that_does_not_answer_may_want_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's client only waits where a cluster with tokens refuses it."""

    def refuse(*words: object, **settings: object) -> None:
        raise ConnectionError("ray client connection timeout")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for mode, said in ((None, True), ("token", False)):
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        if mode:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with pytest.raises(FacecadeError, match=r"no Ray cluster answers at ray://10\.0\.0\.1:10001") as caught:
            connect("ray://10.0.0.1:10001")
        assert ("RAY_AUTH_MODE=token" in caught.value.hint) is said
