"""A worker process that ends with its parent, and imports what it needs only after it watches it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from typing import Any

from facecade.base.interrupt import uninterrupted_children


class Worker(ProcessPoolExecutor):
    """A pool of one process: a larger pool would lose all its calls if one process is killed."""

    def __init__(
        self,
        context: SpawnContext,
        environment: Mapping[str, str],
        initialize: Callable[..., None],
        shared: object,
        *arguments: object,
    ) -> None:
        """
        Args:
            environment: variables of the process, set before it imports anything.
            initialize: called in the process as `initialize(shared, *arguments)`.
            shared: what can be handed over only when a process starts: a queue.
            arguments: pickled here, and unpickled there once the parent is watched: it imports torch, which takes seconds.
        """
        call = pickle.dumps((initialize, arguments))
        super().__init__(1, context, _begin, (dict(environment), shared, call))

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **settings: Any) -> Any:
        with uninterrupted_children():  # the first call starts the process
            return super().submit(call, *arguments, **settings)

    def kill(self) -> None:
        """Kill the process, whatever it does."""
        for process in [*(self._processes or {}).values()]:
            process.kill()


def _begin(environment: Mapping[str, str], shared: object, call: bytes) -> None:
    os.environ.update(environment)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    initialize, arguments = pickle.loads(call)
    initialize(shared, *arguments)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)
