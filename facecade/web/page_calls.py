"""Lets only those requests reach Gradio that the page itself sends: its other endpoints, and values of other shapes, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facecade.web.problem import problem

PREFIX = "/gradio_api/"

ENDPOINTS = ("upload", "upload_progress", "queue/join", "queue/data", "cancel", "reset", "heartbeat", "info", "file=")
"""Gradio's endpoints that the page uses, by the start of their path."""

MAX_BYTES = 2**18
"""Maximum size of a call; the images themselves were uploaded before."""


class Upload(BaseModel):
    """An uploaded file, as the page names it."""

    model_config = ConfigDict(strict=True)

    path: str


class Call(BaseModel):
    """A call of one of the page's two handlers: an image, or a list of images; or nothing, after they were removed."""

    model_config = ConfigDict(strict=True)

    fn_index: Literal[0, 1]
    data: list[Upload | list[Upload] | None]
    session_hash: str

    def is_of_page(self, folder: Path) -> bool:
        """Whether it has the shape that the handler takes, and all its paths are of uploads."""
        if len(self.data) != 1:
            return False
        (value,) = self.data
        if value is None:
            return True
        uploads = value if isinstance(value, list) else [value]
        return isinstance(value, list) == (self.fn_index == 1) and all(is_upload(each.path, folder) for each in uploads)


def is_upload(path: str, folder: Path) -> bool:
    """Whether a path is a file of the folder of uploads, after links are resolved."""
    try:
        real = Path(path).resolve()
        return real.is_relative_to(folder.resolve()) and real.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        return False


class PageCalls:
    """ASGI middleware between the server and Gradio."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        """
        Args:
            folder: of uploads.
        """
        self.app, self.folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        endpoint = scope["path"].removeprefix(PREFIX)
        if not endpoint.startswith(ENDPOINTS):
            await problem(404, "no such endpoint", "programs use POST /predict")(scope, receive, send)
        elif endpoint == "queue/join" and scope["method"] == "POST":
            await self._join(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        async for part in Request(scope, receive).stream():
            body += part
            if len(body) > MAX_BYTES:
                await problem(413, "the call is too large", "upload fewer images at once")(scope, receive, send)
                return
        try:
            is_of_page = Call.model_validate_json(body).is_of_page(self.folder)
        except ValidationError:
            is_of_page = False
        if not is_of_page:
            hint = "upload the image again; programs use POST /predict"
            await problem(422, "not an upload of this page", hint)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, and then what the client sends."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
