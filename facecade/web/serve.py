"""The process that `serve` keeps up: the page and the answers for programs, on one port."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.program import install
from facecade.base.progress import note
from facecade.web.limits import Limits


def serve(
    folder: Path,
    machine: Machine,
    limits: Limits,
    host: str,
    port: int,
    opened: bool,
    version: str,
    up: Callable[[str], None],
) -> None:
    """Answer until the process is told to stop.

    Args:
        folder: of a run, or of an export.
        port: 0 takes a free one.
        opened: whether a browser is opened.
        up: called with the address once it answers.

    Raises:
        FacecadeError: Gradio is not installed; the port is taken, the host is not this machine's; nothing fitted in `folder`.
        KeyboardInterrupt: it was told to stop.
    """
    if find_spec("gradio") is None:
        raise FacecadeError("the page needs Gradio", install("web"))
    with _listen(host, port) as listening, tempfile.TemporaryDirectory(prefix="facecade-") as scratch:
        address = _address(host, listening.getsockname()[1])
        if not _loopback(host):
            note(f"anybody who reaches {host} can send images here, and nothing asks who they are")
        from facecade.web.predictor import Predictor

        predictor = Predictor.open(folder, machine, limits)
        # Gradio reads these when it is imported: it shall tell nobody that it runs, and leave no image behind.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": scratch}
        import uvicorn

        from facecade.web.api import make_api
        from facecade.web.page import add_page

        app = add_page(make_api(predictor, version), predictor, Path(scratch))

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                up(address)
                if opened:
                    webbrowser.open(address)

        # A page that is open holds a connection: it does not keep the process from ending.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        Server(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that has the port, before anything slow begins."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except socket.gaierror:
        raise FacecadeError(f"no address is called {host}", "--host 127.0.0.1, or an address of this machine") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise FacecadeError(
                f"port {port} of {host} is taken by another process", f"--port {port + 1}, or --port 0 for a free one"
            ) from None
        raise FacecadeError(
            f"{host}:{port} cannot be listened on: {error.strerror}", "another --host or --port"
        ) from None


def _address(host: str, port: int) -> str:
    """What a browser is given: of all addresses this machine's own."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
