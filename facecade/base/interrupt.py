"""Ctrl-C ends a command within two seconds, whatever it is doing, and reaches its main process only. What SIGTERM does, a command may
say."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells give it."""

GRACE_SECONDS = 1.0
"""Seconds after Ctrl-C in which a command may close its files and end its threads."""


@contextmanager
def exit_on_interrupt(before_exit: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt in the main thread, later ones do nothing, and the process exits with status
    `INTERRUPTED` if it still runs after `GRACE_SECONDS`, unless the block has handled it.

    It may: the main thread sees no exception while a library computes, and an image that a thread decodes is waited for. Files are
    written under temporary names, so an exit at any moment leaves none half written.

    Args:
        before_exit: called first if the process has to be ended that way.
    """
    global _interrupted
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()  # Windows accepts no pipe here
    sender.setblocking(False)
    # The system writes to the socket at once; a Python handler would have to wait for the main thread.
    previous_sender = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    previous_handler = signal.signal(signal.SIGINT, _interrupt_once)
    handled = threading.Event()
    threading.Thread(target=_exit_after_interrupt, args=(receiver, handled, before_exit), daemon=True).start()
    try:
        yield
        _interrupted = False
    finally:
        if not _interrupted:
            handled.set()
        signal.set_wakeup_fd(previous_sender)
        sender.close()
        if signal.getsignal(signal.SIGINT) is _interrupt_once:
            signal.signal(signal.SIGINT, previous_handler)


_interrupted = False
"""Whether Ctrl-C was pressed, and the command did not go on."""


def interrupted() -> bool:
    """Whether Ctrl-C was pressed in a block that has not ended: an error may then be only what became of KeyboardInterrupt, as in
    `__set_name__`, where Python raises RuntimeError instead."""
    return _interrupted


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt what cleans up
    raise KeyboardInterrupt


@atexit.register  # before other modules register, so it is called last
def _exit_if_interrupted() -> None:
    """Exit without freeing what torch holds, which takes seconds; on Ctrl-C also if it comes only now."""
    if _interrupted:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _exit_after_interrupt(receiver: socket.socket, handled: threading.Event, before_exit: Callable[[], None]) -> None:
    with receiver:
        while number := receiver.recv(1):
            if number[0] == signal.SIGINT and not handled.wait(GRACE_SECONDS):
                try:
                    for process in multiprocessing.active_children():
                        process.kill()
                    before_exit()
                finally:
                    os._exit(INTERRUPTED)
            if number[0] == signal.SIGTERM and _terminate:
                _terminate()


_terminate: Callable[[], None] | None = None
"""What SIGTERM calls."""


def on_terminate(call: Callable[[], None] | None) -> None:
    """Within `exit_on_interrupt`, SIGTERM calls this in another thread, at once, whatever a library computes in the main thread;
    None = SIGTERM ends the process, as without this call. Only from the main thread."""
    global _terminate
    _terminate = call
    signal.signal(signal.SIGTERM, _do_nothing if call else signal.SIG_DFL)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Makes Python write the signal to the wakeup socket."""


@contextmanager
def uninterrupted_children() -> Iterator[None]:
    """Processes started in the block never get Ctrl-C, which a terminal sends to all processes of a command.

    Ignoring it from the first line of the child's code would be too late: Python and the main module start before.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
