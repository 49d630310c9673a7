"""The server process of `serve`: the web page and the HTTP API on one port."""

from __future__ import annotations

import errno
import os
import socket
import webbrowser
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.program import install
from facecade.base.progress import note
from facecade.web.limits import Limits
from facecade.web.scratch import scratch_folder

MAX_CONNECTIONS = 1000
"""Connections at once; further ones get status 503."""


def serve(
    folder: Path,
    machine: Machine,
    limits: Limits,
    host: str,
    port: int,
    open_browser: bool,
    version: str,
    on_ready: Callable[[str], None],
    allowed_hosts: Collection[str] = (),
    abstain: float | None = None,
) -> None:
    """Serve until the process is stopped.

    Args:
        folder: of a run, or of an export.
        port: 0 takes a free one.
        open_browser: open the page in a browser.
        on_ready: called with the address once the server accepts requests.
        allowed_hosts: names, besides the address, under which clients may call the server.
        abstain: as for `infer`.

    Raises:
        FacecadeError: Gradio is not installed; the port is taken; the host is not this machine's; `folder` has no fitted run.
        KeyboardInterrupt: the process was stopped.
    """
    if find_spec("gradio") is None:
        raise FacecadeError("the page needs Gradio", install("web"))
    with _bind(host, port) as bound_socket, scratch_folder() as scratch:
        from facecade.web.hosts import AllowedHosts, is_loopback

        address = _url(host, bound_socket.getsockname()[1])
        if not is_loopback(host):
            note(f"anyone who can reach {host} can send images to this server; there is no login")
        from facecade.web.predictor import Predictor

        predictor = Predictor.open(folder, machine, limits, abstain)
        # Gradio reads these on import: no telemetry, and uploads go to a folder that is deleted.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(scratch)}
        import uvicorn

        from facecade.web.api import make_api
        from facecade.web.page import add_page
        from facecade.web.request_limits import HeaderTimeout

        app = add_page(make_api(predictor, version), predictor, scratch)
        app.add_middleware(AllowedHosts, host=host, extra=allowed_hosts)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                on_ready(address)
                if open_browser:
                    webbrowser.open(address)

        # An open page holds a connection; after 3 seconds the server stops anyway.
        config = uvicorn.Config(
            app,
            http=HeaderTimeout,
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=3,
            limit_concurrency=MAX_CONNECTIONS,
        )
        Server(config).run([bound_socket])


def _bind(host: str, port: int) -> socket.socket:
    """A socket bound to the port, so that a taken port is reported before the slow loading starts."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except socket.gaierror:
        raise FacecadeError(f"unknown host {host}", "--host 127.0.0.1, or an address of this machine") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise FacecadeError(
                f"port {port} of {host} is taken by another process", f"--port {port + 1}, or --port 0 for a free one"
            ) from None
        raise FacecadeError(f"cannot listen on {host}:{port}: {error.strerror}", "another --host or --port") from None


def _url(host: str, port: int) -> str:
    """The URL for a browser; the loopback address where the server listens on all addresses."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
