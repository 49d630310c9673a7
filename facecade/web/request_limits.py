"""Limits on a request's bytes and time, and security headers on its response."""

from __future__ import annotations

import asyncio
import time
from asyncio import TimerHandle, Transport
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from facecade.web.limits import Limits
from facecade.web.problem import problem

HEADER_SECONDS = 10.0
"""A connection is closed if the headers of a request are not complete after so many seconds."""

BODY_SECONDS = 15.0
"""Time for a request's body, in addition to what it takes at MIN_BYTES_PER_SECOND."""

MIN_BYTES_PER_SECOND = 2**14
"""Slowest upload that is accepted: 64 MB then take an hour, and a trickle of single bytes ends after BODY_SECONDS."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)
"""Lets the page request nothing but this server, whatever its libraries try."""

CLOSE = {"connection": "close"}
"""Header of responses to requests that were not read to their end: what still arrives must not keep the connection open."""


class RequestLimits:
    """ASGI middleware that refuses requests that are too large or too slow while they arrive."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.max_bytes = app, limits.request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_bytes:
            await problem(413, self._too_large, "send fewer images at once", headers=CLOSE)(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), _with_security_headers(send))

    @property
    def _too_large(self) -> str:
        return f"the request is too large: over {self.max_bytes / 2**20:.0f} MB"

    def _limited(self, receive: Receive) -> Receive:
        """Count the received bytes and the time: a request may have no content length, or a wrong one."""
        started, received, complete = time.monotonic(), 0, False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # what follows is the client's leaving, for which there is no limit
                return await receive()
            left = started + BODY_SECONDS + received / MIN_BYTES_PER_SECOND - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.0))
            except TimeoutError:
                raise HTTPException(408, "the request arrives too slowly", CLOSE) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self.max_bytes:
                raise HTTPException(413, self._too_large, CLOSE)
            return message

        return limited


class HeaderTimeout(H11Protocol):
    """uvicorn's HTTP protocol, which closes connections whose headers do not arrive; uvicorn itself would wait forever."""

    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_timer()

    def handle_events(self) -> None:
        super().handle_events()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        """Start the timer, if it does not run, while no request is being handled."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _with_security_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            security: list[tuple[bytes, Any]] = [
                (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
            message = {**message, "headers": [*message["headers"], *security]}
        await send(message)

    return send_with_headers
