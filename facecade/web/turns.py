"""One prediction at a time, in the order of the requests; without a thread for each that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from facecade.web.limits import RefusedError

MAX_WAITING = 256
"""Images that may wait, of all requests; further requests are refused."""

CHECK_SECONDS = 1.0
"""How often it is checked whether a waiting client is still there."""

Result = TypeVar("Result")


class Turns:
    """Runs calls in one thread, first come, first served."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "predict")
        self._waiting = 0

    async def run(self, request: Request, call: Callable[[], Result]) -> Result:
        """Run a call when it is its turn.

        Raises:
            RefusedError: 503, too many calls wait.
            ClientDisconnect: the client left before its turn; the call was not run.
        """
        if self._waiting >= MAX_WAITING:
            raise RefusedError(503, "the server is busy", "try again in a minute")
        self._waiting += 1
        try:
            queued = self._thread.submit(call)
            future = asyncio.wrap_future(queued)
            while not (await asyncio.wait({future}, timeout=CHECK_SECONDS))[0]:
                if await request.is_disconnected() and queued.cancel():
                    raise ClientDisconnect
            return future.result()
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Drop the calls that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)
