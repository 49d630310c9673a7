"""Lets only those requests reach Gradio that the page itself sends: its other endpoints, and values of other shapes, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
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


class ImageCall(BaseModel):
    """A call for one image; None after it was removed."""

    model_config = ConfigDict(strict=True)

    fn_index: Literal[0]
    data: tuple[Upload | None]
    session_hash: str

    @property
    def uploads(self) -> list[Upload]:
        return [each for each in self.data if each]


class BatchCall(BaseModel):
    """A call for several images, and whether all their faces are predicted."""

    model_config = ConfigDict(strict=True)

    fn_index: Literal[1]
    data: tuple[list[Upload] | None, bool]
    session_hash: str

    @property
    def uploads(self) -> list[Upload]:
        return self.data[0] or []


class ExampleCall(BaseModel):
    """A call for a drawn face."""

    model_config = ConfigDict(strict=True)

    fn_index: Literal[2, 3, 4]
    data: tuple[()]
    session_hash: str

    @property
    def uploads(self) -> list[Upload]:
        return []


CALL: TypeAdapter[ImageCall | BatchCall | ExampleCall] = TypeAdapter(
    Annotated[ImageCall | BatchCall | ExampleCall, Field(discriminator="fn_index")]
)
"""A call of one of the page's handlers."""


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
            uploads = CALL.validate_json(body).uploads
            is_of_page = all(is_upload(each.path, self.folder) for each in uploads)
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
