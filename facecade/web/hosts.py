"""Which hosts and origins the server serves: it stops web pages of other sites from using a server on this machine."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from facecade.web.problem import problem

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AllowedHosts:
    """ASGI middleware that refuses unknown hosts (DNS rebinding) and requests from pages of other origins.

    Starlette's TrustedHostMiddleware does the first, but cannot read IPv6 hosts such as `[::1]:7860`.
    """

    def __init__(self, app: ASGIApp, host: str, extra: Collection[str] = ()) -> None:
        """
        Args:
            host: that the server listens on. On loopback only the names of loopback are served; elsewhere also this machine's
                name and every numeric address: an attacker's DNS entry is always a name.
            extra: further names that are served.
        """
        self.app = app
        self.loopback = is_loopback(host)
        names = {*LOOPBACK_HOSTS, host, *extra, *([] if self.loopback else [socket.gethostname()])}
        self.names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_served(host):
            refusal = problem(400, "unknown host", "use the address that serve printed, or --allowed-host")
        elif origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            refusal = problem(403, "requests from pages of other sites are refused", "use the server's own page")
        else:
            await self.app(scope, receive, send)
            return
        await refusal(scope, receive, send)

    def _is_served(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (not self.loopback and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
